import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { findLeftovers, type Search } from '../../../src/build/verify/leftovers.ts'
import { imageSpec, shellLayer } from '../../plan/spec.ts'
import { THIS_MACHINE } from './machine.ts'

/** The search itself, in a tree that looks like a clone's. */
let root: string

const KEY = (body: string) => `ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI${body.repeat(4)}`
const MINE = KEY('mineMINEmi')
const PASSWD = 'root:x:0:0::/root:/bin/bash\nib-verify:x:1000:1000::/home/ib-verify:/bin/bash\n'

/** What a good clone of a virtual machine has. */
const GOOD = {
  'etc/passwd': PASSWD,
  'etc/machine-id': 'a'.repeat(32),
  'root/.bashrc': '',
  'home/ib-verify/.ssh/authorized_keys': `${MINE} ib-verify-1\n`,
  'root/.ssh/authorized_keys': `no-port-forwarding,command="echo 'Please login as the user \\"ib-verify\\".'" ${MINE} ib-verify-1\n`,
  'home/ib-verify/.sudo_as_admin_successful': '',
  'etc/ssh/ssh_host_ed25519_key': '-----BEGIN OPENSSH PRIVATE KEY-----\n',
  'etc/ssh/ssh_host_ed25519_key.pub': `${KEY('hostHOSTho')} root@clone\n`,
  'var/lib/cloud/instances/i-1/user-data.txt': '#cloud-config\n',
  'var/lib/cloud/data/previous-instance-id': 'NO_PREVIOUS_INSTANCE_ID\n',
  'var/log/cloud-init.log': 'Attempting to remove /var/lib/cloud/instance\n',
  'run/cloud-init/result.json': '{}',
}

async function put(files: Record<string, string>): Promise<void> {
  for (const [path, content] of Object.entries(files)) {
    await mkdir(dirname(join(root, path)), { recursive: true })
    await writeFile(join(root, path), content)
  }
}

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'imagebuild-leftovers-'))
  await put(GOOD)
  await symlink('/var/lib/cloud/instances/i-1', join(root, 'var/lib/cloud/instance'))
})
afterEach(async () => {
  await rm(root, { recursive: true, force: true })
})

async function search(change: Partial<Search> = {}): Promise<Record<string, string>> {
  const results = await findLeftovers(THIS_MACHINE, {
    image: imageSpec(),
    login: { user: 'ib-verify', publicKey: `${MINE} ib-verify-1` },
    config: { digest: '', ide2: 'local:700/vm-700-cloudinit.qcow2,media=cdrom' },
    root,
    ...change,
  })
  expect(results.length).toBeGreaterThan(10)
  return Object.fromEntries(
    results.flatMap(({ id, outcome, found = '' }) => (outcome === 'failed' ? [[id, found]] : [])),
  )
}

test('a good clone has none', async () => {
  expect(await search()).toEqual({})
})

describe('is found by name:', () => {
  const RUN = 'imagebuild-0a1b2c3d'
  test.each([
    [
      'a key in /root/.ssh',
      'root/.ssh/authorized_keys',
      `${KEY('leftLEFTle')} left\n`,
      'authorized-key',
      /^\/root\/\.ssh\/authorized_keys: ssh-ed25519 …\S{12} left$/,
    ],
    [
      'a key of another user',
      'home/ops/.ssh/authorized_keys',
      `# ops\n\n${KEY('leftLEFTle')}`,
      'authorized-key',
      /\/home\/ops/,
    ],
    [
      'a private key of root',
      'root/.ssh/deploy',
      '-----BEGIN RSA PRIVATE KEY-----\n',
      'private-key',
      /^\/root\/\.ssh\/deploy: /,
    ],
    [
      'a private key in /etc/ssh',
      'etc/ssh/keys/ca',
      '-----BEGIN OPENSSH PRIVATE KEY-----\n',
      'private-key',
      /^\/etc\/ssh\/keys\/ca: /,
    ],
    [
      'the build’s host key',
      'etc/ssh/ssh_host_ed25519_key.pub',
      `${KEY('x')} imagebuild-host-0a1b2c3d\n`,
      'host-key',
      /the build's/,
    ],
    [
      'a host key that the template had',
      'var/log/cloud-init.log',
      'util.py[DEBUG]: Attempting to remove /etc/ssh/ssh_host_rsa_key\n',
      'host-key',
      /^\/etc\/ssh\/ssh_host_rsa_key: was in the template/,
    ],
    ['a shell history', 'root/.bash_history', 'ls\nid\n', 'history', /^\/root\/\.bash_history: 2 lines$/],
    [
      'a history of a user without a home in /etc/passwd',
      'home/gone/.python_history',
      'x\n',
      'history',
      /gone/,
    ],
    [
      'the builder',
      'etc/passwd',
      `${PASSWD}imagebuild:x:999:999::/home/imagebuild:/bin/sh\n`,
      'builder',
      /^\/etc\/passwd: names imagebuild$/,
    ],
    ['the builder’s backup', 'etc/shadow-', 'imagebuild:!:1::::::\n', 'builder', /^\/etc\/shadow-/],
    [
      'the builder’s rules',
      'etc/sudoers.d/90-cloud-init-users',
      'imagebuild ALL=(ALL) NOPASSWD:ALL\n',
      'builder',
      /sudoers\.d/,
    ],
    [
      'the builder’s last login',
      'var/lib/lastlog/lastlog2.db',
      'SQLite format 3\0\0\x1fimagebuild\0pts/0',
      'builder',
      /lastlog2\.db: knows of a login/,
    ],
    ['the builder’s home', 'home/imagebuild/.profile', '', 'builder', /^\/home\/imagebuild: /],
    ['a seed', 'var/lib/cloud/seed/nocloud/user-data', '#cloud-config\n', 'seed', /nocloud\/user-data/],
    [
      'instance data',
      'var/lib/cloud/instances/i-0/x',
      '',
      'cloud-init',
      /^\/var\/lib\/cloud\/instances\/i-0: /,
    ],
    [
      'the machine before',
      'var/lib/cloud/data/previous-instance-id',
      'i-0\n',
      'cloud-init',
      /has seen the machine i-0/,
    ],
    [
      'a lease',
      'var/lib/dhcp/dhclient.leases',
      'lease {\n  fixed-address 192.0.2.9;\n}\n',
      'lease',
      /192\.0\.2\.9/,
    ],
    [
      'another card',
      'etc/netplan/50-cloud-init.yaml',
      'macaddress: "02:1B:00:00:00:01"\n',
      'network',
      /02:1b:00:00:00:01/,
    ],
    ['a token', 'root/.docker/config.json', '{}', 'token', /config\.json/],
    ['an npm token', 'root/.npmrc', '//registry/:_authToken=x\n', 'token', /npmrc/],
    ['another journal', 'var/log/journal/bbbb/system.journal', '', 'journal', /bbbb/],
    ['the run’s name', 'var/log/auth.log', `Accepted publickey for x: ${RUN}\n`, 'trace', new RegExp(RUN)],
    ['an upload that was cut off', 'etc/.imagebuild.AbCdEfGhIj', '', 'trace', /imagebuild\.AbC/],
  ])('%s', async (_title, path, content, id, found) => {
    await put({ [path]: content })
    const all = await search()
    expect(Object.keys(all)).toContain(id)
    expect(all[id]).toMatch(found)
  })

  test('a CD-ROM that is not Proxmox’s', async () => {
    const config = { digest: '', scsi1: 'local:iso/ib-seed-x.iso,media=cdrom', ide2: 'none,media=cdrom' }
    expect(await search({ config })).toEqual({ seed: 'drive scsi1: local:iso/ib-seed-x.iso,media=cdrom' })
  })
})

describe('is the definition’s own affair:', () => {
  const where = { file: 'image.yaml', line: 1, column: 1 }
  const own = KEY('ownsOWNSow')
  const spec = imageSpec()
  const common = { name: 'n', where, timeoutSeconds: 1 }
  const file = (path: string, content: string) =>
    ({
      ...common,
      kind: 'file',
      path,
      content: Buffer.from(content),
      mode: '0600',
      owner: 'root:root',
    }) as const

  test('a key that a layer or a fragment names', async () => {
    await put({ 'home/ops/.ssh/authorized_keys': `${own} ops\n` })
    expect(Object.keys(await search())).toEqual(['authorized-key'])
    expect(await search({ image: { ...spec, layers: [file('/anywhere', `${own} ops`)] } })).toEqual({})
    const fragment = { name: 'ops', where, config: { users: [{ ssh_authorized_keys: [`${own} ops`] }] } }
    expect(await search({ image: { ...spec, cloudInit: [fragment] } })).toEqual({})
  })

  test('a file that a layer writes', async () => {
    await put({ 'root/.ssh/deploy': '-----BEGIN OPENSSH PRIVATE KEY-----\n', 'root/.netrc': 'machine x\n' })
    expect(Object.keys(await search()).sort()).toEqual(['private-key', 'token'])
    const layers = [file('/root/.ssh/deploy', ''), file('/root/.netrc', '')]
    expect(await search({ image: { ...spec, layers } })).toEqual({})
  })

  test('what a parent’s layers put there, be it by a script that is given a key', async () => {
    await put({ 'root/.ssh/authorized_keys': `${own} ops\n`, 'root/.netrc': 'machine x\n' })
    const source = { kind: 'image', image: 'base', architecture: 'amd64', where } as const
    const image = { ...spec, source }
    expect(Object.keys(await search({ image })).sort()).toEqual(['authorized-key', 'token'])
    const parent = { ...spec, layers: [file('/root/.ssh/authorized_keys', own), file('/root/.netrc', '')] }
    expect(await search({ image, ancestors: [{ ...spec, layers: [] }, parent] })).toEqual({})
    const script = shellLayer({ env: { KEY: `${own} ops` } })
    expect(Object.keys(await search({ image, ancestors: [{ ...spec, layers: [script] }] }))).toEqual([
      'token',
    ])
  })

  test('whom a parent lets in, but for root', async () => {
    await put({ 'home/ops/.ssh/authorized_keys': own, 'root/.ssh/authorized_keys': own })
    const source = { kind: 'image', image: 'base', architecture: 'amd64', where } as const
    expect((await search({ image: { ...spec, source } }))['authorized-key']).toMatch(/^\/root\/[^\n]*$/)
  })
})

test('a container whose cloud-init did not run has no instance of its own', async () => {
  await rm(join(root, 'run'), { recursive: true })
  const { login: _, ...rest } = { login: undefined }
  const results = await findLeftovers(THIS_MACHINE, {
    image: { ...imageSpec(), kind: 'lxc' } as never,
    config: { digest: '' },
    root,
    ...rest,
  })
  const failed = results.filter(({ outcome }) => outcome === 'failed').map(({ id }) => id)
  expect(failed.sort()).toEqual(['authorized-key', 'cloud-init', 'history'])
})
