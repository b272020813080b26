import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readdirSync, readFileSync, statfsSync, writeFileSync } from 'node:fs'
import { mkdir, mkdtemp, rm, symlink, truncate, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { LxcContainers } from '../../src/lab/containers/containers.ts'
import { MountedRoot } from '../../src/lab/containers/mounted-root.ts'
import { DirStorage } from '../../src/lab/dir-storage.ts'
import { stopLab } from '../../src/lab/lab.ts'
import { labNames } from '../../src/lab/names.ts'
import { PoolStorage } from '../../src/lab/pool-storage.ts'
import type { ContainerSpec } from '../../src/lab/world.ts'
import { archive, tinyTree } from './tiny-archive.ts'

const MiB = 1 << 20
const quiet = () => {}
let dir: string
let containers: LxcContainers
let storage: DirStorage
let ended: number[]

const bridge = () => labNames(dir).bridge

async function open(): Promise<LxcContainers> {
  const options = { dir, names: labNames(dir), bridge, nameserver: '10.98.0.1' }
  const opened = new LxcContainers({ ...options, onEnd: (vmid) => ended.push(vmid) })
  await opened.open()
  return opened
}

async function made(vmid: number, changes: Partial<ContainerSpec> = {}): Promise<ContainerSpec> {
  const { volid } = await storage.createRoot(vmid, 64 * MiB, quiet)
  return {
    ...{ vmid, hostname: `ct${vmid}.example.org`, arch: 'amd64', memory: 64, swap: 0, cores: 1 },
    ...{ unprivileged: true, features: {}, nics: [], root: storage.path(volid), ...changes },
  }
}

async function tiny(vmid: number, changes: Partial<ContainerSpec> = {}): Promise<ContainerSpec> {
  const spec = await made(vmid, changes)
  const file = archive(tinyTree(join(dir, `tree-${vmid}`)), join(dir, `tiny-${vmid}.tar.zst`))
  await containers.create(spec, { archive: file }, quiet)
  return spec
}

/** A file of a stopped container, with its owner and mode. */
async function inside(spec: ContainerSpec, path: string): Promise<{ text: string; stat: string }> {
  await using root = await MountedRoot.open(spec.root, { readOnly: true })
  const file = `${root.path}${path}`
  return {
    text: readFileSync(file, 'utf8'),
    stat: execFileSync('stat', ['-c', '%a %u:%g', file]).toString().trim(),
  }
}

async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await condition())) await delay(10)
}

/** Has this process CAP_SYS_RESOURCE? Some sandboxes' root has not. */
function mayResizeOnline(): boolean {
  const set = /^CapEff:\t([0-9a-f]+)/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1]
  return ((BigInt(`0x${set}`) >> 24n) & 1n) === 1n
}

/** What of this lab's containers is on this machine: processes, mounts anywhere, loop devices, groups, links, files. */
function traces(): string[] {
  const { bridge: link, runtime, lxcPath } = labNames(dir)
  const ours = (text: string) => text.includes(dir) || text.includes(link)
  const found: string[] = []
  for (const pid of readdirSync('/proc').filter(
    (name) => /^\d+$/.test(name) && name !== String(process.pid),
  )) {
    for (const file of ['cmdline', 'mountinfo']) {
      try {
        const lines = readFileSync(`/proc/${pid}/${file}`, 'utf8').split('\n')
        found.push(...lines.filter(ours).map((line) => `${pid} ${line}`))
      } catch {
        // It has just ended.
      }
    }
  }
  const losetup = execFileSync('losetup', ['-a']).toString().split('\n')
  const groups = execFileSync('find', ['/sys/fs/cgroup', '-name', `${link}*`])
    .toString()
    .split('\n')
  const links = readdirSync('/sys/class/net').filter((name) => name.startsWith(`ibt${link.slice(6, 10)}`))
  return [...found, ...losetup.filter(ours), ...groups.filter(Boolean), ...links].concat(
    [lxcPath, runtime].filter(existsSync),
  )
}

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'imagebuild-containers-'))
  ended = []
  storage = new DirStorage({ id: 'local', root: join(dir, 'local'), content: ['rootdir'] })
  await storage.open()
  containers = await open()
})
afterEach(async () => {
  await containers.stopAll()
  containers.close()
  await rm(dir, { recursive: true, force: true })
})

const notRoot = process.getuid?.() !== 0

describe.skipIf(notRoot)(`containers${notRoot ? ' (skipped: needs root)' : ''}`, () => {
  test.each([true, false])('are made as Proxmox makes them (unprivileged: %s)', async (unprivileged) => {
    const spec = await made(100, { unprivileged })
    const file = archive(tinyTree(join(dir, 'tree')), join(dir, 'tiny.tar.xz'))
    const log: string[] = []
    const access = {
      archive: file,
      password: 's3cret',
      sshPublicKeys: 'ssh-ed25519 AAAA one\nssh-rsa BBBB two',
    }
    expect(await containers.create(spec, access, (line) => log.push(line))).toEqual({ ostype: 'debian' })
    expect(log[0]).toMatch(/^Creating filesystem with \d+ \dk blocks and 16384 inodes$/)
    expect(log).toContain(`extracting archive '${file}'`)
    expect(log).toContain('Detected container architecture: amd64')
    const owner = unprivileged ? 100_000 : 0
    for (const type of ['rsa', 'ecdsa', 'ed25519']) {
      const name = `ssh_host_${type}_key`
      const said = log[log.indexOf(`Creating SSH host key '${name}' - this may take some time ...`) + 1]
      await writeFile(join(dir, 'key.pub'), (await inside(spec, `/etc/ssh/${name}.pub`)).text)
      const print = execFileSync('ssh-keygen', ['-lf', join(dir, 'key.pub')])
        .toString()
        .split(' ')[1]
      expect(said).toBe(`done: ${print} root@ct100`)
      expect((await inside(spec, `/etc/ssh/${name}`)).stat).toBe(`600 ${owner}:${owner}`)
    }
    const keys = await inside(spec, '/root/.ssh/authorized_keys')
    const block = `# --- BEGIN PVE ---\n${access.sshPublicKeys}\n# --- END PVE ---\n`
    expect(keys).toEqual({ text: block, stat: `600 ${owner}:${owner}` })
    const shadow = await inside(spec, '/etc/shadow')
    expect(shadow.text).toMatch(/^root:\$6\$[^:]+:\d+:0:99999:7:::\nother:!:1:0:99999:7:::\n$/)
    expect(shadow.stat).toBe(`640 ${owner}:${owner}`)
    const [, salt] = /^root:\$6\$([^$]+)/.exec(shadow.text) ?? []
    const again = execFileSync('openssl', ['passwd', '-6', '-salt', salt as string, 's3cret'])
      .toString()
      .trim()
    expect(shadow.text).toContain(again)
    expect((await inside(spec, '/etc/hosts')).text).toContain('127.0.1.1 ct100.example.org ct100\n')
    expect((await inside(spec, '/etc/resolv.conf')).text).toContain('nameserver 10.98.0.1\n')
    expect(traces()).toEqual([])
  })

  test.each([true, false])(
    'start and shut down, and leave nothing (unprivileged: %s)',
    async (unprivileged) => {
      const spec = await tiny(101, { unprivileged })
      await containers.start(spec, quiet)
      await expect(containers.start(spec, quiet)).rejects.toThrow('CT 101 already running')
      const status = await containers.status(101)
      expect(status).toMatchObject({ running: true, pid: expect.any(Number) })
      expect(status.mem).toBeGreaterThan(0)
      expect(status.disk).toBeGreaterThan(MiB)
      expect(status.disk).toBeLessThan(32 * MiB)
      await until(async () => (await containers.consoleLog(101)).includes('tiny begins'))
      expect(await containers.running()).toEqual([101])
      expect(readFileSync('/proc/mounts', 'utf8')).not.toContain(spec.root)
      await containers.shutdown(101, 20)
      expect(ended).toEqual([101])
      expect(await containers.consoleLog(101)).toContain('tiny ends')
      expect(await containers.status(101)).toMatchObject({ running: false, mem: 0 })
      await containers.stopAll()
      expect(traces()).toEqual([])
    },
  )

  test('are not outside themselves: ids, devices, other processes', async () => {
    const spec = await tiny(102)
    await containers.start(spec, quiet)
    const { pid } = await containers.status(102)
    const proc = (file: string) => readFileSync(`/proc/${pid}/${file}`, 'utf8')
    expect(proc('status')).toMatch(/^Uid:\t100000\t100000/m)
    expect(proc('uid_map').trim().split(/\s+/)).toEqual(['0', '100000', '65536'])
    for (const space of ['mnt', 'net', 'pid', 'ipc', 'uts', 'user', 'cgroup']) {
      const of = (id: number | string | undefined) =>
        execFileSync('readlink', [`/proc/${id}/ns/${space}`]).toString()
      expect(of(pid), space).not.toBe(of(process.pid))
    }
  })

  test('end by themselves: the volume is free again, and says so', async () => {
    const spec = await tiny(103)
    await containers.start(spec, quiet)
    const { pid } = await containers.status(103)
    writeFileSync(`/proc/${pid}/root/stop`, '')
    await until(() => ended.length > 0)
    expect(await containers.running()).toEqual([])
    expect((await inside(spec, '/stop')).stat).toBe('644 0:0')
    expect(await containers.consoleLog(103)).toContain('tiny stops')
    await containers.stopAll()
    expect(traces()).toEqual([])
  })

  test('that do not listen are not ended by asking', async () => {
    const deaf = tinyTree(join(dir, 'deaf'))
    await writeFile(join(deaf, 'sbin/init'), '#!/bin/sh\ntrap "" PWR\necho deaf\nwhile :; do sleep 1; done\n')
    const spec = await made(104)
    await containers.create(spec, { archive: archive(deaf, join(dir, 'deaf.tar')) }, quiet)
    await containers.start(spec, quiet)
    await expect(containers.shutdown(104, 0.5)).rejects.toThrow('container did not stop')
    expect(await containers.running()).toEqual([104])
    await containers.stop(104)
    expect(ended).toEqual([104])
  })

  test('outlive their daemon, and the next one takes them over', async () => {
    const spec = await tiny(105)
    await containers.start(spec, quiet)
    containers.close()
    const next = await open()
    expect(await next.running()).toEqual([105])
    expect((await next.status(105)).running).toBe(true)
    await next.stopAll()
    expect(ended).toEqual([105])
    expect(traces()).toEqual([])
  })

  test('whose daemon was killed end with their lab', async () => {
    const spec = await tiny(117)
    await containers.start(spec, quiet)
    containers.close()
    expect(await stopLab(dir)).toBe(true)
    expect(traces()).toEqual([])
    expect(await stopLab(dir)).toBe(false)
  })

  test('whose console is watched take what shows it along', async () => {
    const spec = await tiny(101)
    await containers.start(spec, quiet)
    const console = await containers.console(101)
    const isShown = () => traces().some((trace) => trace.includes('lxc-console'))
    await until(isShown)
    console.destroy()
    // What shows it ends before the container does, whose end closes every console.
    await until(() => !isShown())
    expect((await containers.status(101)).running).toBe(true)
    // Closed at once, it has hardly begun.
    ;(await containers.console(101)).destroy()
    await containers.stopAll()
    expect(traces()).toEqual([])
  })

  test('whose monitor is killed go with all that is theirs', async () => {
    const spec = await tiny(106)
    await containers.start(spec, quiet)
    const { pid } = await containers.status(106)
    const parent = /^PPid:\t(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]
    process.kill(Number(parent), 'SIGKILL')
    await until(() => ended.length > 0)
    await containers.stopAll()
    expect(traces()).toEqual([])
  })

  test('say why they do not start, and leave nothing', async () => {
    const spec = await tiny(107)
    const log: string[] = []
    const broken = { ...spec, nics: [nic({ bridge: 'vmbr9' })] }
    await expect(containers.start(broken, (line) => log.push(line))).rejects.toThrow(
      "startup for container '107' failed",
    )
    expect(log.join('\n')).toContain('network')
    await containers.stopAll()
    expect(traces()).toEqual([])
    expect(await containers.running()).toEqual([])
  })

  test('are dumped and restored, with the ids that their inside sees', async () => {
    const spec = await tiny(108)
    const dump = join(dir, 'dump.tar.zst')
    const log: string[] = []
    await containers.dump(spec, dump, (line) => log.push(line))
    expect(log.join()).toMatch(/Total bytes written: \d+/)
    // Without its root, which a restore changes: tar tells times by the minute, and that may be another one by then.
    const listed = (file: string) =>
      execFileSync('tar', ['--numeric-owner', '-tvf', file])
        .toString()
        .split('\n')
        .filter((line) => !line.endsWith(' ./'))
        .sort()
    expect(listed(dump).find((line) => line.endsWith('./etc/shadow'))).toMatch(/^-rw-r----- 0\/0 /)
    const other = await made(109, { unprivileged: false })
    await containers.restore(other, dump, quiet)
    expect((await inside(other, '/etc/shadow')).stat).toBe('640 0:0')
    await containers.dump(other, join(dir, 'again.tar.zst'), quiet)
    expect(listed(join(dir, 'again.tar.zst'))).toEqual(listed(dump))
  })

  test('as clones get their name and no machine-id, and keep their host keys', async () => {
    const spec = await tiny(110)
    const key = await inside(spec, '/etc/ssh/ssh_host_ed25519_key.pub')
    await containers.afterClone({ ...spec, hostname: 'clone' })
    expect((await inside(spec, '/etc/hostname')).text).toBe('clone\n')
    await expect(inside(spec, '/etc/machine-id')).rejects.toThrow('ENOENT')
    expect(await inside(spec, '/etc/ssh/ssh_host_ed25519_key.pub')).toEqual(key)
  })

  test('grow with their volumes, stopped and running', async () => {
    const spec = await tiny(111)
    await truncate(spec.root, 96 * MiB)
    await containers.growRoot(spec, quiet)
    await containers.start(spec, quiet)
    const size = async () => {
      const { blocks, bsize } = statfsSync(`/proc/${(await containers.status(111)).pid}/root`)
      return blocks * bsize
    }
    expect(await size()).toBeGreaterThan(80 * MiB)
    await truncate(spec.root, 160 * MiB)
    const log: string[] = []
    await containers.growRoot(spec, (line) => log.push(line))
    if (!mayResizeOnline()) {
      expect(log.join('\n')).toMatch(/Failed to update the container's filesystem: .*resize2fs/)
      expect(await size()).toBeLessThan(100 * MiB)
      await containers.stop(111)
      await containers.start(spec, quiet)
    }
    expect(await size()).toBeGreaterThan(140 * MiB)
  })

  test('on a pool are snapshotted while they run', async () => {
    const pool = new PoolStorage('lvmthin', { id: 'pool', root: join(dir, 'pool'), content: ['rootdir'] })
    await pool.open()
    const { volid } = await pool.createRoot(112, 64 * MiB, quiet)
    const spec = { ...(await made(112)), root: pool.path(volid) }
    await containers.create(spec, { archive: archive(tinyTree(join(dir, 't')), join(dir, 't.tar')) }, quiet)
    await containers.start(spec, quiet)
    const root = `/proc/${(await containers.status(112)).pid}/root`
    writeFileSync(`${root}/before`, 'written just now')
    await containers.frozen(112, () => pool.snapshot(volid, 'one'))
    writeFileSync(`${root}/after`, '')
    await containers.stop(112)
    await pool.rollback(volid, 'one')
    expect((await inside(spec, '/before')).text).toBe('written just now')
    await expect(inside(spec, '/after')).rejects.toThrow('ENOENT')
  })

  test('made from a hostile archive write nothing outside', async () => {
    const outside = join(dir, 'outside')
    await mkdir(outside)
    const tree = tinyTree(join(dir, 'hostile'))
    await rm(join(tree, 'root'), { recursive: true })
    await symlink(outside, join(tree, 'root'))
    await rm(join(tree, 'etc/ssh'), { recursive: true })
    await symlink(outside, join(tree, 'etc/ssh'))
    await symlink(join(outside, 'hostname'), join(tree, 'etc/hostname'))
    await symlink(`../../../../../../../..${outside}`, join(tree, 'etc/network'))
    for (const unprivileged of [true, false]) {
      const spec = await made(unprivileged ? 113 : 114, { unprivileged, nics: [nic({})] })
      const file = archive(tree, join(dir, 'hostile.tar.gz'))
      await containers.create(spec, { archive: file, sshPublicKeys: 'ssh-ed25519 AAAA' }, quiet)
      expect(readdirSync(outside)).toEqual([])
      // It lies where the link leads inside.
      expect((await inside(spec, `${outside}/.ssh/authorized_keys`)).text).toContain('ssh-ed25519 AAAA\n')
      await expect(inside(spec, `${outside}/hostname`)).rejects.toThrow('ENOENT')
    }
  })

  test('being made end with their daemon, however that ends', async () => {
    const spec = await made(115)
    execFileSync('mkfs.ext4', ['-q', '-F', spec.root])
    const module = new URL('../../src/lab/containers/mounted-root.ts', import.meta.url)
    const script = `const { MountedRoot } = await import(${JSON.stringify(module.href)})
      const root = await MountedRoot.open(${JSON.stringify(spec.root)})
      console.log('mounted')
      await root.run(['sleep', '1000'])`
    const daemon = spawn(process.execPath, ['--input-type=module-typescript', '-e', script])
    await once(daemon.stdout, 'data')
    await until(() => execFileSync('losetup', ['-a']).toString().includes(spec.root))
    daemon.kill('SIGKILL')
    await until(() => traces().length === 0)
  })

  test('stop being made when nobody wants them any more', async () => {
    const spec = await made(116)
    const file = archive(tinyTree(join(dir, 'tree')), join(dir, 'tiny.tar.zst'))
    const abort = new AbortController()
    const log = (line: string) => line.startsWith('extracting') && abort.abort(new Error('enough'))
    await expect(containers.create(spec, { archive: file }, log, abort.signal)).rejects.toThrow()
    expect(traces()).toEqual([])
  })
})

describe.skipIf(notRoot)(`their network${notRoot ? ' (skipped: needs root)' : ''}`, () => {
  afterEach(() => execFileSync('ip', ['link', 'delete', bridge()]))

  test('has the MAC that it was given, on the bridge', async () => {
    execFileSync('ip', ['link', 'add', bridge(), 'type', 'bridge'])
    const spec = await tiny(120, { nics: [nic({ name: 'wan0', mac: '02:11:22:AA:BB:CC' })] })
    await containers.start(spec, quiet)
    const found = await containers.interfaces(120)
    expect(found.map(({ name, mac }) => ({ name, mac }))).toEqual([
      { name: 'lo', mac: '00:00:00:00:00:00' },
      { name: 'wan0', mac: '02:11:22:aa:bb:cc' },
    ])
    const ports = readdirSync(`/sys/class/net/${bridge()}/brif`)
    expect(ports).toEqual([labNames(dir).tap(120, 'net0')])
    await containers.stop(120)
    expect(readdirSync(`/sys/class/net/${bridge()}/brif`)).toEqual([])
  })
})

function nic(changes: Partial<ContainerSpec['nics'][number]>): ContainerSpec['nics'][number] {
  return {
    slot: 'net0',
    name: 'eth0',
    mac: '02:00:00:00:00:01',
    bridge: 'vmbr0',
    ip: 'dhcp',
    options: {},
    ...changes,
  }
}
