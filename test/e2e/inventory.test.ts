import { createHash } from 'node:crypto'
import { cp, mkdtemp, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Differences } from '../../src/build/inventory/differences.ts'
import type { Manifest } from '../../src/build/inventory/manifest.ts'
import type { Pve } from '../../src/pve/client.ts'
import { readConfig } from '../../src/pve/guest-ref.ts'
import { parseNote } from '../../src/pve/marks.ts'
import { BOOTSTRAP, labClient, makeProject, type Project } from './harness.ts'

/** What is in an image, written down by real builds of a container, and compared. */
let project: Project
let pve: Pve
const versions: string[] = []
const vmids: number[] = []

/** A package made in the guest, so that no mirror is needed: with a service that listens, and files with rights. */
const PACKAGE = `#!/bin/sh -eu
# package.sh <name> <version>
name=$1 version=$2
tree=$(mktemp -d)
mkdir -p "$tree/DEBIAN" "$tree/usr/lib/$name" "$tree/usr/lib/systemd/system"
printf 'Package: %s\\nVersion: %s\\nSource: %s-src\\nArchitecture: all\\nMaintainer: Nobody <nobody@example.org>\\nDescription: one\\n' \\
  "$name" "$version" "$name" > "$tree/DEBIAN/control"
cp /usr/bin/true "$tree/usr/lib/$name/privileged"
chmod 4750 "$tree/usr/lib/$name/privileged"
printf '[Socket]\\nListenStream=0.0.0.0:8123\\nAccept=yes\\n[Install]\\nWantedBy=sockets.target\\n' > "$tree/usr/lib/systemd/system/$name.socket"
printf '[Service]\\nExecStart=/usr/bin/cat\\nStandardInput=socket\\n' > "$tree/usr/lib/systemd/system/$name@.service"
dpkg-deb --build --root-owner-group "$tree" "/tmp/$name.deb" > /dev/null
dpkg --install "/tmp/$name.deb" > /dev/null
rm -rf "$tree"
`

const definition = (version: string, layers = '') =>
  `name: listed\nkind: lxc\n${BOOTSTRAP}\nhardware: { rootfs: 2G }\nhardening: none\nprovision:\n` +
  `  - file: { source: package.sh, path: /usr/local/sbin/make-package, mode: '0755' }\n` +
  // Debian 13 has no file of this kind by itself: its ping does without.
  `  - shell: cp /usr/bin/true /usr/local/bin/able && setcap cap_net_raw+ep /usr/local/bin/able\n` +
  `  - shell: make-package always ${version}\n${layers}`

const MORE =
  '  - shell: make-package more 1.0 && systemctl enable --now more.socket\n' +
  "  - shell: echo 'MaxAuthTries 2' > /etc/ssh/sshd_config.d/20-tries.conf\n" +
  "  - shell: echo 'net/ipv4/conf/all/log_martians = 1' > /etc/sysctl.d/50-martians.conf\n" +
  '  - shell: useradd --shell /bin/bash --uid 1234 ann && fallocate -l 5M /srv/large\n'

beforeAll(async () => {
  project = await makeProject({
    'images/listed/package.sh': PACKAGE,
    'images/listed/image.yaml': definition('1.0~rc1'),
  })
  for (const text of [undefined, undefined, definition('1.0', MORE)]) {
    if (text !== undefined) await project.write({ 'images/listed/image.yaml': text })
    const { result, stderr } = await project.run(['listed', '--force'])
    expect(result.status, stderr + JSON.stringify(result.error)).toBe('built')
    versions.push(result.template?.version as string)
    vmids.push(result.template?.vmid as number)
  }
  pve = await labClient()
})

afterAll(async () => {
  await pve?.[Symbol.asyncDispose]()
  await project[Symbol.asyncDispose]()
})

const record = (version: string, name: string) =>
  join(project.root, '.imagebuild/builds/lab/listed', version, name)

test('each build has a manifest and an SBOM, whose SHA-256 its template’s note has', async () => {
  for (const [index, version] of versions.entries()) {
    const vmid = vmids[index] as number
    const { description } = await readConfig(pve, { kind: 'lxc', node: 'lab', vmid })
    for (const name of ['manifest.json', 'packages.txt', 'sbom.cdx.json']) {
      const sha256 = createHash('sha256')
        .update(await readFile(record(version, name)))
        .digest('hex')
      expect(parseNote(vmid, description)?.artifacts?.[name]).toBe(sha256)
    }
  }
  const manifest = JSON.parse(
    await readFile(record(versions[2] as string, 'manifest.json'), 'utf8'),
  ) as Manifest
  expect(manifest).toMatchObject({
    schema: 1,
    image: 'listed',
    kind: 'lxc',
    kernels: [],
    capabilitiesRead: true,
  })
  expect(manifest.distribution).toMatchObject({ id: 'debian', version: '13', codename: 'trixie' })
  expect(manifest.privileged).toContainEqual({ path: '/usr/bin/su', mode: '4755', owner: 'root:root' })
  expect(manifest.privileged).toContainEqual({ path: '/usr/local/bin/able', capabilities: 'cap_net_raw=ep' })
  expect(manifest.packages).toContainEqual(
    expect.objectContaining({ name: 'always', version: '1.0', source: 'always-src', status: 'installed' }),
  )
  expect(manifest.packages?.length).toBeGreaterThan(100)
  expect(manifest.users.map(({ name }) => name)).toEqual(['ann', 'root'])
  const sbom = await readFile(record(versions[2] as string, 'sbom.cdx.json'), 'utf8')
  expect(sbom).toContain('"pkg:deb/debian/always@1.0?arch=all&distro=debian-13&upstream=always-src"')
})

test('two builds of the same differ in nothing', async () => {
  const { stdout, exitCode } = await project.imagebuild([
    'diff',
    'listed',
    ...versions.slice(0, 2),
    '--exit-code',
  ])
  expect(stdout).toContain('nothing differs')
  expect(exitCode).toBe(0)
})

test('what was added shows, with its port, its rights and its size', async () => {
  const { stdout, exitCode } = await project.imagebuild(['diff', 'listed', '--json', '--exit-code'])
  expect(exitCode).toBe(1)
  const shown = JSON.parse(stdout) as Differences &
    Record<'before' | 'after', { version: string; vmid: number }>
  expect([shown.before.version, shown.after.version]).toEqual(versions.slice(1))
  expect(shown.after.vmid).toBe(vmids[2])
  expect(shown.packages).toEqual({
    added: [{ name: 'more', version: '1.0' }],
    removed: [],
    upgraded: [{ name: 'always', before: '1.0~rc1', after: '1.0' }],
    downgraded: [],
  })
  expect(shown).toMatchObject({
    sshd: [{ name: 'maxauthtries', before: '6', after: '2' }],
    sysctl: [{ name: 'net.ipv4.conf.all.log_martians', before: null, after: '1' }],
    ports: [{ name: 'tcp 0.0.0.0:8123', before: null, after: 'systemd' }],
    privileged: [{ name: '/usr/lib/more/privileged', before: null, after: '4750 root:root' }],
    units: [{ name: 'more.socket', before: null, after: 'enabled' }],
    users: [{ name: 'ann', before: null, after: 'uid 1234, /bin/bash' }],
    ...{ system: [], unknown: [] },
  })
  const { before = 0, after = 0 } = shown.size ?? {}
  expect((after - before) / 2 ** 20).toBeCloseTo(5, 0)
})

test('and backwards, for people', async () => {
  const { stdout, exitCode } = await project.imagebuild(['diff', 'listed', '@current', '@previous'])
  expect(exitCode).toBe(0)
  expect(stdout).toContain(`listed ${versions[2]} → ${versions[1]} on lab`)
  expect(stdout).toContain('packages: 1 removed, 1 downgraded\n  - more    1.0\n  ↓ always  1.0 → 1.0~rc1\n')
})

describe('a fresh clone of the project', () => {
  let clone: string
  const inClone = (...args: string[]) =>
    project.imagebuild(['--config', join(clone, 'imagebuild.yaml'), ...args])
  const LISTS = 'imagebuild.packages/lab'
  const committed = (root: string) => readFile(join(root, LISTS, 'listed.txt'), 'utf8')
  const listOf = (index: number) => readFile(record(versions[index] as string, 'packages.txt'), 'utf8')
  const locked = async (root: string) =>
    JSON.parse(await readFile(join(root, 'imagebuild.lock.json'), 'utf8')).targets.lab.listed.version

  beforeAll(async () => {
    clone = await mkdtemp(join(tmpdir(), 'imagebuild-e2e-clone-'))
    const { root } = project
    await cp(root, clone, { recursive: true, filter: (path) => path !== join(root, '.imagebuild') })
  })
  afterAll(() => rm(clone, { recursive: true, force: true }))

  test('has the packages of what is current, as each run writes them', async () => {
    const list = await committed(clone)
    expect(list).toBe(await listOf(2))
    expect(list).toMatch(/^# distribution: debian 13 trixie\n# architecture: (amd64|arm64)\n# apt: deb /m)
    expect(list).toContain('\nalways 1.0 all always-src\n')
    expect(list).toContain('\nmore 1.0 all more-src\n')
    const { exitCode, stdout, stderr } = await inClone('diff', 'listed', 'current', 'current')
    expect([exitCode, stderr]).toEqual([0, ''])
    expect(stdout).toContain('no package differs\n\nnot compared: everything else\n')
    expect(stdout).toContain(`${versions[2]}: record not here, sha256 `)
  })

  test('believes none of which a byte was changed', async () => {
    const list = await committed(clone)
    await writeFile(join(clone, LISTS, 'listed.txt'), list.replace('always 1.0 ', 'always 1.1 '))
    const { exitCode, stdout, stderr } = await inClone('diff', 'listed', 'current', 'current')
    await writeFile(join(clone, LISTS, 'listed.txt'), list)
    expect([exitCode, stdout]).toEqual([1, ''])
    expect(stderr).toContain('report not here, sha256 ')
  })

  test('gets another list by a rollback where both were built, and shows what that is about', async () => {
    expect((await project.imagebuild(['rollback', 'listed'])).exitCode).toBe(0)
    expect(await committed(project.root)).toBe(await listOf(1))
    // As it is pulled.
    for (const path of [LISTS, 'imagebuild.lock.json'])
      await cp(join(project.root, path), join(clone, path), { recursive: true })
    // The list of what was current before is there only where it was built.
    const { stdout } = await project.imagebuild(['diff', 'listed', versions[2] as string])
    expect(stdout).toContain('packages: 1 removed, 1 downgraded\n')
    expect((await inClone('diff', 'listed', versions[2] as string)).stderr).toContain('report not here')
  })

  test('keeps no list that is not current, until the place where it was built writes it again', async () => {
    const { exitCode, stderr } = await inClone('promote', 'listed@previous')
    expect(exitCode).toBe(0)
    expect(stderr).toContain(`lacks the packages of listed: the list of ${versions[2]} is not here (sha256 `)
    expect(await readdir(join(clone, LISTS))).toEqual([])
    expect([await locked(clone), await locked(project.root)]).toEqual([versions[2], versions[1]])
    expect((await project.run(['listed'])).result.status).toBe('unchanged')
    expect(await locked(project.root)).toBe(versions[2])
    expect(await committed(project.root)).toBe(await listOf(2))
  })
})

test('without a manifest the packages are compared; without both, they are asked for by SHA-256', async () => {
  const path = record(versions[1] as string, 'manifest.json')
  const list = record(versions[1] as string, 'packages.txt')
  const sha256 = createHash('sha256')
    .update(await readFile(path))
    .digest('hex')
  await rename(path, `${path}.away`)
  const packages = await project.imagebuild(['diff', 'listed'])
  await rename(list, `${list}.away`)
  const missing = await project.imagebuild(['diff', 'listed'])
  await project.write({ [`.imagebuild/builds/lab/listed/${versions[1]}/manifest.json`]: '{}' })
  const other = await project.imagebuild(['diff', 'listed'])
  await rename(`${path}.away`, path)
  await rename(`${list}.away`, list)
  expect(packages.stdout).toContain('packages: 1 added, 1 upgraded\n')
  expect(packages.stdout).toContain(
    `not compared: everything else\n  ${versions[1]}: record not here, sha256 ${sha256}`,
  )
  for (const { stdout, stderr, exitCode } of [missing, other]) {
    expect(exitCode).toBe(1)
    expect(stdout).toBe('')
    expect(stderr).toContain(`report not here, sha256 ${sha256}`)
    expect(stderr).toContain('copy ')
  }
  const none = await project.imagebuild(['diff', 'listed', '20000101.1'])
  expect([none.exitCode, none.stdout]).toEqual([1, ''])
  expect(none.stderr).toContain('there is no 20000101.1 template of listed')
})
