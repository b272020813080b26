import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { failedReport } from '../../src/build/verify/report.ts'
import { poll } from '../../src/core/scope.ts'
import type { Pve } from '../../src/pve/client.ts'
import { destroyGuest } from '../../src/pve/destroy.ts'
import { BOOTSTRAP, inventory, labClient, makeProject, type Project } from './harness.ts'
import { plantedTemplate } from './planted.ts'
import { CHECKS, failures, found, outcomes, PASSWORDS_OFF, PLANTED, plant } from './verify-cases.ts'
import { verifyTemplate } from './verifying.ts'

/** Clones of a container's template, examined for real: a good one, and a spoiled one. Virtual machines: test/campaign. */
let project: Project
let pve: Pve

beforeAll(async () => {
  project = await makeProject({
    'images/box/image.yaml': `name: box\nkind: lxc\n${BOOTSTRAP}\nhardware: { rootfs: 2G }\nbuild: { bootTimeout: 2m }\nssh: { principals: { root: [admins, root] } }\n${PASSWORDS_OFF}${CHECKS}`,
  })
})

afterAll(async () => {
  if (pve !== undefined) await removeAll()
  await pve?.[Symbol.asyncDispose]()
  await project[Symbol.asyncDispose]()
})

async function removeAll(): Promise<void> {
  const node = pve.api.nodes.$('lab')
  const signal = AbortSignal.timeout(120_000)
  for (const { vmid } of (await node.lxc.$get()) as { vmid: number }[])
    await destroyGuest(pve, { kind: 'lxc', node: 'lab', vmid, signal })
}

describe('a container', () => {
  let vmid: number

  beforeAll(async () => {
    const { result, stderr } = await project.run(['box'], { env: { IMAGEBUILD_VERIFY: 'off' } })
    expect(result.status, stderr + JSON.stringify(result.error)).toBe('built')
    vmid = result.template?.vmid as number
    pve = await labClient()
  })

  test('entered by a certificate of the configured CA, passes; nothing of the clones is left', async () => {
    const before = await inventory(pve)
    const report = await verifyTemplate(project, 'box', vmid)
    expect(failures(report)).toEqual([])
    expect(report.summary).toMatchObject({ certificates: 'passed', inside: 'verified', failed: 0 })
    expect(report.clones.map(({ hostKey }) => hostKey.trust)).toEqual(['first use', 'first use'])
    expect(outcomes(report, 'certificates')).toEqual({
      ...{ authorities: 'passed', principals: 'passed', 'revoked-keys': 'passed', 'configured-ca': 'passed' },
      ...{ right: 'passed', 'wrong-principal': 'passed', expired: 'passed', revoked: 'passed' },
      ...{ 'plain-key': 'passed', password: 'passed', control: 'passed' },
    })
    expect(Object.values(outcomes(report, 'checks'))).toEqual(Array(5).fill('passed'))
    expect(await inventory(pve)).toEqual(before)
  })

  test('that trusts a CA which nobody has configured is refused; who is nobody’s is refused all the same', async () => {
    const report = await verifyTemplate(project, 'box', vmid, { logins: false })
    expect(failures(report)).toEqual(['certificates/authorities', 'certificates/principals'])
    expect(found(report, 'certificates/authorities')).toContain('/etc/ssh/trusted_user_ca_keys')
    expect(found(report, 'certificates/principals')).toContain('/etc/ssh/auth_principals/root: ')
    expect(report.summary).toMatchObject({ certificates: 'not configured', inside: 'verified' })
    expect(outcomes(report, 'certificates')).toMatchObject({
      ...{ 'plain-key': 'passed', password: 'passed', control: 'passed' },
    })
    expect(outcomes(report, 'certificates')).not.toHaveProperty('right')
  })

  test('whose CA has no signer at hand is seen from outside, and the report says so', async () => {
    const report = await verifyTemplate(project, 'box', vmid, { signer: false })
    expect(failures(report)).toEqual([])
    expect(report.summary).toMatchObject({ certificates: 'not verified', inside: 'not verified' })
    expect(outcomes(report, 'identity')).toMatchObject({ 'host-keys': 'passed', 'machine-id': 'skipped' })
    expect(new Set(Object.values(outcomes(report, 'checks')))).toEqual(new Set(['skipped']))
  })

  test('whose verification is broken off leaves no clone', async () => {
    const before = await inventory(pve)
    const stop = new AbortController()
    const verifying = verifyTemplate(project, 'box', vmid, { signal: stop.signal })
    const running = async () =>
      (await inventory(pve)).guests.some(({ name, running }) => name === 'ib-verify-a-box' && running) ||
      undefined
    await poll(running, { signal: AbortSignal.timeout(60_000) })
    stop.abort(new Error('enough'))
    await expect(verifying).rejects.toThrow('enough')
    expect(await inventory(pve)).toEqual(before)
  })

  test('into which a build’s leftovers were put is refused, each by its name', async () => {
    const before = await inventory(pve)
    await plantedTemplate(pve, 'lxc', { from: vmid, to: 700 }, plant)
    const report = await verifyTemplate(project, 'box', 700)
    expect(failures(report)).toEqual(
      expect.arrayContaining(['identity/host-keys', ...PLANTED.map((id) => `leftovers/${id}`)]),
    )
    expect(found(report, 'leftovers/authorized-key')).toMatch(
      /^\/root\/\.ssh\/authorized_keys: ssh-ed25519 …\S+ left$/,
    )
    expect(found(report, 'leftovers/private-key')).toContain(
      '/etc/ssh/user_ca: -----BEGIN OPENSSH PRIVATE KEY-----',
    )
    expect(found(report, 'leftovers/history')).toBe('/root/.bash_history: 1 lines')
    expect(found(report, 'identity/host-keys')).toContain('the same ssh-ed25519 key')
    // A reload ends the service then, and the next connection starts it: the logins were tried all the same.
    expect(found(report, 'health/ssh-unit')).toContain('ssh.service and ssh.socket are enabled')
    expect(outcomes(report, 'certificates')).toMatchObject({ right: 'passed', control: 'passed' })
    const error = failedReport(report)
    expect(error.why).toContain('leftovers/builder')
    await destroyGuest(pve, { kind: 'lxc', node: 'lab', vmid: 700, signal: AbortSignal.timeout(60_000) })
    expect(await inventory(pve)).toEqual(before)
  })
})
