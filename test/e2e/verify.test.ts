import { appendFile, mkdir, readFile, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { execa } from 'execa'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { failedReport, type Report } from '../../src/build/verify/report.ts'
import { poll } from '../../src/core/scope.ts'
import type { Pve } from '../../src/pve/client.ts'
import { destroyGuest } from '../../src/pve/destroy.ts'
import { BOOTSTRAP, inventory, labClient, makeProject, type Project } from './harness.ts'
import { plantedTemplate } from './planted.ts'
import { verifyTemplate } from './verifying.ts'

/** Clones of finished templates, examined for real: a container's and a virtual machine's, good ones and spoiled ones. */
let project: Project
let pve: Pve

const CHECKS = `checks:
  - name: the system is Debian 12
    command: cat /etc/os-release
    output: '^VERSION_ID="12"$'
  - file: /etc/shadow
    mode: "0640"
    owner: root:shadow
  - package: openssh-server
  - service: ssh.service
    state: active
  - port: 22
`
const PASSWORDS_OFF = `provision:
  - file: { path: /etc/ssh/sshd_config.d/10-passwords.conf, content: "PasswordAuthentication no\\nKbdInteractiveAuthentication no\\n" }
`

beforeAll(async () => {
  project = await makeProject({
    'images/box/image.yaml': `name: box\nkind: lxc\n${BOOTSTRAP}\nhardware: { rootfs: 2G }\nbuild: { bootTimeout: 2m }\nssh: { principals: { root: [admins, root] } }\n${PASSWORDS_OFF}${CHECKS}`,
    'images/machine/image.yaml': `name: machine\n${BOOTSTRAP}\nhardware: { cores: 1, memory: 768, disk: 4G }\nssh: { principals: { root: [admins] } }\n${PASSWORDS_OFF}${CHECKS}`,
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
  for (const kind of ['vm', 'lxc'] as const) {
    const rows = (await (kind === 'vm' ? node.qemu : node.lxc).$get()) as { vmid: number }[]
    for (const { vmid } of rows) await destroyGuest(pve, { kind, node: 'lab', vmid, signal })
  }
}

const failures = (report: Report) =>
  report.results.filter(({ outcome }) => outcome === 'failed').map(({ group, id }) => `${group}/${id}`)
const found = (report: Report, id: string) =>
  report.results.find((result) => `${result.group}/${result.id}` === id)?.found ?? ''
const outcomes = (report: Report, group: string) =>
  Object.fromEntries(
    report.results.filter((one) => one.group === group).map(({ id, outcome }) => [id, outcome]),
  )

/** What sealing removes, put back. */
async function plant(root: string): Promise<void> {
  const at = (path: string) => join(root, path)
  await mkdir(at('root/.ssh'), { recursive: true, mode: 0o700 })
  await execa('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-C', 'left', '-f', at('root/.ssh/id_ed25519')])
  const key = await readFile(at('root/.ssh/id_ed25519.pub'), 'utf8')
  await writeFile(at('root/.ssh/authorized_keys'), key)
  await execa('ssh-keygen', [
    '-q',
    '-t',
    'ed25519',
    '-N',
    '',
    '-C',
    'imagebuild-host-0a1b2c3d',
    '-f',
    at('etc/ssh/ssh_host_ed25519_key'),
  ])
  await execa('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', at('etc/ssh/user_ca')])
  await writeFile(at('root/.bash_history'), 'curl -H "Authorization: Bearer …"\n')
  await writeFile(at('root/.netrc'), 'machine example.org login me password secret\n')
  await appendFile(at('etc/passwd'), 'imagebuild:x:1000:1000::/home/imagebuild:/bin/sh\n')
  await mkdir(at('var/lib/cloud/seed/nocloud'), { recursive: true })
  await writeFile(at('var/lib/cloud/seed/nocloud/meta-data'), 'instance-id: imagebuild-0a1b2c3d\n')
  await mkdir(at('var/lib/cloud/instances/imagebuild-0a1b2c3d'), { recursive: true })
  await writeFile(at('var/lib/dhcp/dhclient.eth0.leases'), 'lease {\n  fixed-address 192.0.2.7;\n}\n').catch(
    () => {},
  )
}
const PLANTED = [
  'authorized-key',
  'private-key',
  'host-key',
  'history',
  'token',
  'builder',
  'seed',
  'cloud-init',
  'trace',
]

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
    const error = failedReport(report)
    expect(error.why).toContain('leftovers/builder')
    await destroyGuest(pve, { kind: 'lxc', node: 'lab', vmid: 700, signal: AbortSignal.timeout(60_000) })
    expect(await inventory(pve)).toEqual(before)
  })
})

describe('a virtual machine', () => {
  let vmid: number

  beforeAll(async () => {
    const { result, stderr } = await project.run(['machine'], { env: { IMAGEBUILD_VERIFY: 'off' } })
    expect(result.status, stderr + JSON.stringify(result.error)).toBe('built')
    vmid = result.template?.vmid as number
    pve ??= await labClient()
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
    expect(found(report, 'leftovers/host-key')).toContain(
      '/etc/ssh/ssh_host_ed25519_key: was in the template',
    )
    expect(report.summary.certificates).toBe('not configured')
    expect(found(report, 'health/units')).toMatch(/^broken\.service: exit-code/)
  })
})
