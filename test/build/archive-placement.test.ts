import { copyFileSync } from 'node:fs'
import { mkdir, mkdtemp, readdir, readFile, rm, stat, utimes, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { execa } from 'execa'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { inspectArchive } from '../../src/archive/inspect.ts'
import { placeArchive } from '../../src/build/archive-placement.ts'
import type { SourceDecision } from '../../src/build/source.ts'
import type { LxcSpec } from '../../src/definition/spec.ts'
import { hashFile } from '../../src/source/cache.ts'
import { lxcSpec, WHERE } from '../plan/spec.ts'
import { MemoryProxmox } from '../pve/memory-proxmox.ts'
import { aBuild } from './world.ts'

let folder: string
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'imagebuild-archive-'))
})
afterEach(async () => {
  await rm(folder, { recursive: true })
})

const signal = new AbortController().signal

/** A tree with the given (empty) programs, packed by the real tar. */
async function archive(
  programs: readonly string[],
  how: { files?: Record<string, string>; tar?: readonly string[]; name?: string } = {},
): Promise<{ path: string; decision: SourceDecision }> {
  const tree = join(folder, 'tree')
  await execa('mkdir', [
    '-p',
    join(tree, 'etc'),
    join(tree, 'usr/bin'),
    join(tree, 'usr/sbin'),
    join(tree, 'sbin'),
  ])
  for (const program of programs) await writeFile(join(tree, program), '', { mode: 0o755 })
  for (const [file, content] of Object.entries(how.files ?? {})) {
    await mkdir(join(tree, file, '..'), { recursive: true })
    await writeFile(join(tree, file), content)
  }
  const path = join(folder, how.name ?? 'rootfs.tar.gz')
  await execa('tar', ['-C', tree, '-caf', path, ...(how.tar ?? ['.'])])
  const value = await hashFile('sha256', path, signal)
  const checksum = { algorithm: 'sha256', value } as const
  return {
    path,
    decision: {
      record: { request: 'url', identity: `sha256:${value}`, version: '', fallback: false },
      from: { kind: 'file', file: { url: `file://${path}`, checksum, format: 'tar.gz' } },
    },
  }
}

/** A file of an archive. */
async function content(path: string, file: string): Promise<string> {
  return (await execa('tar', ['-xaOf', path, `./${file}`])).stdout
}

/** Places it, and gives what was uploaded. */
async function place(
  image: LxcSpec,
  decision: SourceDecision,
  pve = new MemoryProxmox(),
  onInfo: () => void = () => undefined,
) {
  const build = aBuild({ image, cacheDir: join(folder, 'cache') }, pve)
  const { emit } = build
  build.emit = (event) => {
    if (event.type === 'info') onInfo()
    emit(event)
  }
  const uploads: { path: string; filename: string }[] = []
  const client = build.pve
  build.pve = {
    ...client,
    upload: async (node, storage, file, options) => {
      if ('path' in file.source) uploads.push({ path: file.source.path, filename: file.filename })
      return await client.upload(node, storage, file, options)
    },
  }
  const volid = await placeArchive(build, image, decision, { cacheDir: build.cacheDir, signal })
  return { volid, uploads }
}

const FRAGMENT = { name: 'base', config: { timezone: 'Etc/UTC' }, where: WHERE }

test('an archive that has what a build needs is uploaded as it is', async () => {
  const { path, decision } = await archive(['sbin/init', 'usr/sbin/sshd'])
  const { volid, uploads } = await place(lxcSpec(), decision)
  expect(volid).toMatch(/^local:vztmpl\/ib-source-[0-9a-f]{32}-mine\.tar\.gz$/)
  expect(uploads).toMatchObject([{ path }])
})

test('one without an SSH server gets a unit that installs it, and a folder in which Proxmox makes host keys', async () => {
  const { decision } = await archive(['sbin/init', 'usr/bin/apt-get', 'usr/bin/systemctl'])
  const { volid, uploads } = await place(lxcSpec(), decision)
  expect(volid).toMatch(/\.tar\.zst$/)
  const contents = await inspectArchive({ input: uploads[0]?.path as string, signal })
  expect(contents.has('etc/ssh')).toBe(true)
  expect(contents.has('etc/systemd/system/multi-user.target.wants/imagebuild-prepare.service')).toBe(true)
})

test('fragments become a seed in its tree; the same archive and fragments make the same bytes, once', async () => {
  const { decision } = await archive(['sbin/init', 'usr/sbin/sshd', 'usr/bin/cloud-init'])
  const image = lxcSpec({ cloudInit: [FRAGMENT] })
  const first = await place(image, decision)
  const second = await place(image, decision)
  expect(second.uploads).toMatchObject([{ path: first.uploads[0]?.path }])
  const stdout = await content(first.uploads[0]?.path as string, 'var/lib/cloud/seed/nocloud/user-data')
  expect(stdout).toMatch(/^#cloud-config\n/)
  expect(stdout).toContain('timezone: Etc/UTC')
  expect(stdout).toContain('ssh_deletekeys: false')
})

const DEBIAN = { 'etc/os-release': 'ID=debian\nVERSION_ID="12"\n' }

test('a Debian without ifupdown, by which alone Proxmox tells it its network, installs that too', async () => {
  const programs = ['sbin/init', 'usr/sbin/sshd', 'usr/bin/apt-get', 'usr/bin/systemctl']
  const bare = await place(lxcSpec(), (await archive(programs, { files: DEBIAN })).decision)
  const unit = 'etc/systemd/system/imagebuild-prepare.service'
  expect(await content(bare.uploads[0]?.path as string, unit)).toContain(
    'imagebuild-prepare ifupdown isc-dhcp-client',
  )
  const complete = await archive([...programs, 'usr/sbin/ifup'], { files: DEBIAN })
  expect((await place(lxcSpec(), complete.decision)).uploads).toMatchObject([{ path: complete.path }])
})

test('where a seed is put in, what keeps cloud-init off goes', async () => {
  const { decision } = await archive(['sbin/init', 'usr/sbin/sshd', 'usr/bin/cloud-init'], {
    files: { 'etc/cloud/cloud-init.disabled': '' },
  })
  const { uploads } = await place(lxcSpec({ cloudInit: [FRAGMENT] }), decision)
  const contents = await inspectArchive({ input: uploads[0]?.path as string, signal })
  expect(contents.has('etc/cloud/cloud-init.disabled')).toBe(false)
  expect(contents.has('etc/cloud/cloud.cfg.d/99-imagebuild-network.cfg')).toBe(true)
})

test.each([
  ['bare tar', ['sbin/init', 'usr/sbin/sshd'], { name: 'rootfs.tar' }],
  [
    'device nodes, by names that Proxmox does not leave out',
    ['sbin/init', 'usr/sbin/sshd'],
    { tar: ['dev', 'etc', 'sbin', 'usr'] },
  ],
])('%s: packed again as Proxmox takes it', async (_, programs, how) => {
  await execa('mkdir', ['-p', join(folder, 'tree/dev')])
  if ('tar' in how) await execa('mknod', [join(folder, 'tree/dev/null'), 'c', '1', '3'])
  const { decision } = await archive(programs, how)
  const { volid, uploads } = await place(lxcSpec(), decision)
  expect(volid).toMatch(/\.tar\.zst$/)
  const contents = await inspectArchive({ input: uploads[0]?.path as string, signal })
  expect(contents).toMatchObject({ packing: 'zst', prefix: './', devices: 0, sshd: true })
})

test.each([
  ['no init', ['usr/sbin/sshd'], [], /no init/],
  ['neither SSH server nor apt', ['sbin/init'], [], /lacks openssh-server/],
  ['fragments and no cloud-init', ['sbin/init', 'usr/sbin/sshd'], [FRAGMENT], /no cloud-init/],
])('%s: refused with the place in the definition', async (_, programs, cloudInit, why) => {
  const { decision } = await archive(programs)
  await expect(place(lxcSpec({ cloudInit }), decision)).rejects.toMatchObject({
    code: 'definition_invalid',
    where: WHERE,
    why: expect.stringMatching(why),
  })
})

test('a hostile archive is refused as the definition’s fault, before anything is uploaded', async () => {
  const path = join(folder, 'evil.tar')
  await writeFile(join(folder, 'passwd'), 'x')
  await execa('tar', ['-C', folder, '--transform', 's,^,../../,', '-P', '-cf', path, 'passwd'])
  const value = await hashFile('sha256', path, signal)
  const decision: SourceDecision = {
    record: { request: 'url', identity: `sha256:${value}`, version: '', fallback: false },
    from: {
      kind: 'file',
      file: { url: `file://${path}`, checksum: { algorithm: 'sha256', value }, format: 'tar' },
    },
  }
  const pve = new MemoryProxmox()
  await expect(place(lxcSpec(), decision, pve)).rejects.toMatchObject({
    code: 'definition_invalid',
    message: expect.stringContaining('the source archive of web is refused'),
  })
  expect(pve.writes).toEqual([])
})

test('an appliance that is bare tar, as Proxmox VE 9 has them, is taken as it is', async () => {
  const pve = new MemoryProxmox()
  const template = 'debian-13-standard_13.1-1_amd64.tar'
  const decision: SourceDecision = {
    record: { request: 'appliance', identity: 'sha512:1', version: '13.1-1', fallback: false },
    from: { kind: 'appliance', template },
  }
  pve.files.push({ volid: `local:vztmpl/${template}`, size: 1, ctime: 0, content: 'vztmpl' })
  expect((await place(lxcSpec(), decision, pve)).volid).toBe(`local:vztmpl/${template}`)
  expect(pve.writes).toEqual([])
})

test('the archive of a parent is taken where it lies; one that is gone is told', async () => {
  const pve = new MemoryProxmox()
  const volid = 'local:vztmpl/base-20260101.1.tar.zst'
  const template = {
    kind: 'lxc',
    node: 'pve',
    vmid: 9000,
    name: 'base-20260101.1',
    marks: {} as never,
  } as const
  const decision: SourceDecision = {
    record: { request: 'image base', identity: 'sha256:1', version: '20260101.1', fallback: false },
    from: { kind: 'archive', volid, template },
  }
  const image = lxcSpec({ source: { kind: 'image', image: 'base', architecture: 'amd64', where: WHERE } })
  await expect(place(image, decision, pve)).rejects.toMatchObject({
    code: 'not_found',
    next: 'imagebuild run base --force',
  })
  pve.files.push({ volid, size: 1, ctime: 0, content: 'vztmpl' })
  expect((await place(image, decision, pve)).volid).toBe(volid)
  expect(pve.writes).toEqual([])
})

test('an archive that was rewritten, and has other bytes in the cache now, is rewritten again', async () => {
  const { decision } = await archive(['sbin/init', 'usr/sbin/sshd', 'usr/bin/cloud-init'])
  const image = lxcSpec({ cloudInit: [FRAGMENT] })
  const [first] = (await place(image, decision)).uploads
  const path = first?.path as string
  const right = await readFile(path)
  const { mtime } = await stat(path)
  await writeFile(path, Buffer.alloc(right.length, 'x'))
  await utimes(path, mtime, mtime)
  await place(image, decision)
  expect((await readFile(path)).equals(right)).toBe(true)
})

test('what becomes of an archive that is changed while it is rewritten is not kept', async () => {
  const { decision, path } = await archive(['sbin/init', 'usr/sbin/sshd', 'usr/bin/cloud-init'])
  const changed = await archive(['sbin/init', 'usr/sbin/sshd', 'usr/bin/cloud-init'], {
    ...{ name: 'other.tar.gz', files: { 'etc/other': 'x' } },
  })
  const image = lxcSpec({ cloudInit: [FRAGMENT] })
  // It is said between the look at the archive and the rewriting.
  const onRewrite = () => copyFileSync(changed.path, path)
  await expect(place(image, decision, new MemoryProxmox(), onRewrite)).rejects.toMatchObject({
    code: 'build_failed',
    what: `${path} was changed while it was read`,
  })
  expect(await readdir(join(folder, 'cache/files')).catch(() => [])).toEqual([])
})

test('where the node refuses an archive that was changed on its way, that is the reason', async () => {
  const { decision, path } = await archive(['sbin/init', 'usr/sbin/sshd'])
  const pve = new MemoryProxmox()
  const build = aBuild({ image: lxcSpec(), cacheDir: join(folder, 'cache') }, pve)
  build.pve = {
    ...build.pve,
    upload: async () => {
      await writeFile(path, 'other')
      throw new Error('checksum mismatch')
    },
  }
  const attempt = placeArchive(build, lxcSpec(), decision, { cacheDir: build.cacheDir, signal })
  await expect(attempt).rejects.toMatchObject({ what: `${path} was changed while it was read` })
})
