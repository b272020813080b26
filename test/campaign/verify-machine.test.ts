import { symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { Pve } from '../../src/pve/client.ts'
import { destroyGuest } from '../../src/pve/destroy.ts'
import { BOOTSTRAP, inventory, labClient, makeProject, type Project } from '../e2e/harness.ts'
import { plantedTemplate } from '../e2e/planted.ts'
import { CHECKS, failures, found, outcomes, PASSWORDS_OFF, PLANTED, plant } from '../e2e/verify-cases.ts'
import { verifyTemplate } from '../e2e/verifying.ts'

/** Clones of a virtual machine's template, examined for real: a good one, and a spoiled one. */
let project: Project
let pve: Pve
let vmid: number

beforeAll(async () => {
  project = await makeProject({
    'images/machine/image.yaml': `name: machine\n${BOOTSTRAP}\nhardware: { cores: 1, memory: 768, disk: 4G }\nssh: { principals: { root: [admins] } }\n${PASSWORDS_OFF}${CHECKS}`,
  })
  const { result, stderr } = await project.run(['machine'])
  expect(result.status, stderr + JSON.stringify(result.error)).toBe('built')
  vmid = result.template?.vmid as number
  pve = await labClient()
})

afterAll(async () => {
  const signal = AbortSignal.timeout(120_000)
  for (const one of (await pve.api.nodes.$('lab').qemu.$get()) as { vmid: number }[])
    await destroyGuest(pve, { kind: 'vm', node: 'lab', vmid: one.vmid, signal })
  await pve[Symbol.asyncDispose]()
  await project[Symbol.asyncDispose]()
})

test('entered by Proxmox’s cloud-init, its host key told by its agent, passes', async () => {
  const before = await inventory(pve)
  const report = await verifyTemplate(project, 'machine', vmid)
  expect(failures(report)).toEqual([])
  expect(report.summary).toMatchObject({ certificates: 'passed', inside: 'verified', skipped: 0 })
  expect(report.clones.map(({ hostKey }) => hostKey.trust)).toEqual(['guest agent', 'guest agent'])
  expect(outcomes(report, 'health')).toEqual({
    ...{
      boot: 'passed',
      units: 'passed',
      'cloud-init': 'passed',
      'guest-agent': 'passed',
      'root-disk': 'passed',
      'ssh-unit': 'passed',
      'ssh-reload': 'passed',
    },
  })
  expect(await inventory(pve)).toEqual(before)
})

test('into which a build’s leftovers were put is refused, each by its name', async () => {
  await plantedTemplate(pve, 'vm', { from: vmid, to: 701 }, async (root) => {
    await plant(root)
    await writeFile(join(root, 'etc/machine-id'), `${'0123456789abcdef'.repeat(2)}\n`)
    await writeFile(
      join(root, 'etc/systemd/system/broken.service'),
      '[Service]\nExecStart=/bin/false\n[Install]\n',
    )
    await symlink(
      '../broken.service',
      join(root, 'etc/systemd/system/multi-user.target.wants/broken.service'),
    )
  })
  const report = await verifyTemplate(project, 'machine', 701, { logins: false })
  expect(failures(report)).toEqual(
    expect.arrayContaining([
      'identity/machine-id',
      'health/units',
      ...PLANTED.map((id) => `leftovers/${id}`),
    ]),
  )
  expect(found(report, 'identity/machine-id')).toContain('0123456789abcdef0123456789abcdef in both')
  // cloud-init makes new ones on a first boot; the template had one all the same.
  expect(found(report, 'leftovers/host-key')).toContain('/etc/ssh/ssh_host_ed25519_key: was in the template')
  expect(report.summary.certificates).toBe('not configured')
  expect(found(report, 'health/units')).toMatch(/^broken\.service: exit-code/)
})
