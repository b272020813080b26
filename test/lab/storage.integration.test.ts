import { execFileSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { mkdir, mkdtemp, readdir, rm, stat, truncate, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { DirStorage } from '../../src/lab/dir-storage.ts'
import { PoolStorage } from '../../src/lab/pool-storage.ts'

const MiB = 1 << 20
const quiet = () => {}
let root: string

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'imagebuild-storage-'))
})
afterEach(() => rm(root, { recursive: true, force: true }))

async function dir(limit?: number): Promise<DirStorage> {
  const content = ['images', 'iso', 'import', 'vztmpl', 'backup', 'rootdir', 'snippets'] as const
  const storage = new DirStorage({ id: 'local', root: join(root, 'local'), content, limit })
  await storage.open()
  return storage
}

async function pool(type: 'lvmthin' | 'zfspool', limit?: number): Promise<PoolStorage> {
  const storage = new PoolStorage(type, { id: 'pool', root: join(root, 'pool'), content: ['images'], limit })
  await storage.open()
  return storage
}

/** Reads and writes a disk's content as a guest would see it. */
const write = (path: string, what: string) =>
  execFileSync('qemu-io', ['-f', 'qcow2', '-c', `write -P ${what} 0 64k`, path], { stdio: 'pipe' })
const holds = (path: string, what: string) =>
  !execFileSync('qemu-io', ['-r', '-f', 'qcow2', '-c', `read -P ${what} 0 64k`, path])
    .toString()
    .includes('verification failed')

async function image(name: string, mebibytes: number, pattern = '0x41'): Promise<string> {
  await mkdir(join(root, 'import'), { recursive: true })
  const path = join(root, 'import', name)
  execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', path, `${mebibytes}M`])
  execFileSync('qemu-io', ['-f', 'qcow2', '-c', `write -P ${pattern} 0 ${mebibytes / 2}M`, path], {
    stdio: 'pipe',
  })
  return path
}

describe('a directory', () => {
  test('names disks as Proxmox does, and hands out the lowest free number', async () => {
    const storage = await dir()
    const first = await storage.createDisk(9000, 16 * MiB, 'qcow2', quiet)
    const second = await storage.createDisk(9000, 16 * MiB, undefined, quiet)
    const named = await storage.createDisk(9000, 4 * MiB, 'qcow2', quiet, 'vm-9000-cloudinit')
    expect(first).toMatchObject({
      volid: 'local:9000/vm-9000-disk-0.qcow2',
      format: 'qcow2',
      size: 16 * MiB,
      vmid: 9000,
    })
    expect(second).toMatchObject({ volid: 'local:9000/vm-9000-disk-1.raw', format: 'raw', size: 16 * MiB })
    expect(named.volid).toBe('local:9000/vm-9000-cloudinit.qcow2')
    await storage.remove(first.volid)
    expect((await storage.createDisk(9000, MiB, 'raw', quiet)).volid).toBe('local:9000/vm-9000-disk-0.raw')
  })

  test('tells how full it is while guests come and go', async () => {
    const storage = await dir()
    let isOver = false
    const guests = async () => {
      for (let vmid = 1; vmid <= 12; vmid += 1)
        await storage.remove((await storage.createDisk(vmid, MiB, 'qcow2', quiet)).volid)
      isOver = true
    }
    const looks = async () => {
      while (!isOver) expect((await storage.status()).used).toBeGreaterThanOrEqual(0)
    }
    await Promise.all([guests(), looks(), looks(), looks()])
  })

  test('gives different names to disks that are created at once', async () => {
    const storage = await dir()
    const disks = await Promise.allSettled([0, 1, 2].map(() => storage.createDisk(7, MiB, 'qcow2', quiet)))
    const names = disks.map((disk) => (disk.status === 'fulfilled' ? disk.value.volid : disk.reason.message))
    expect(names.sort()).toEqual([0, 1, 2].map((number) => `local:7/vm-7-disk-${number}.qcow2`))
  })

  test('lists files with the formats that Proxmox gives them', async () => {
    const storage = await dir()
    const files = { iso: 'seed.iso', import: 'debian.qcow2', vztmpl: 'debian-12.tar.zst' } as const
    for (const [content, name] of Object.entries(files) as ['iso', string][]) {
      const { path, volid } = storage.place(content, name)
      await writeFile(path, '12345')
      expect(await storage.find(volid)).toMatchObject({ volid: `local:${content}/${name}`, size: 5, content })
      expect(storage.path(volid)).toBe(path)
    }
    expect((await storage.list()).map(({ format }) => format).sort()).toEqual(['iso', 'qcow2', 'tzst'])
    expect(await storage.find('local:iso/other.iso')).toBeUndefined()
    expect(() => storage.place('iso', '../x.iso')).toThrow('invalid file name')
    await storage.remove('local:iso/seed.iso')
    expect(await storage.find('local:iso/seed.iso')).toBeUndefined()
  })

  test('imports an image with its content and reports progress', async () => {
    const storage = await dir()
    const log: string[] = []
    const source = await image('x.qcow2', 16)
    const disk = await storage.importDisk(100, source, undefined, (line) => log.push(line))
    expect(disk).toMatchObject({ volid: 'local:100/vm-100-disk-0.qcow2', size: 16 * MiB })
    expect(holds(storage.path(disk.volid), '0x41')).toBe(true)
    expect(log[0]).toBe('transferred 0.0 B of 16.0 MiB (0.00%)')
    expect(log.at(-1)).toBe('transferred 16.0 MiB of 16.0 MiB (100.00%)')
    const raw = await storage.importDisk(100, source, 'raw', quiet)
    expect((await stat(storage.path(raw.volid))).blocks * 512).toBeLessThan(10 * MiB)
  })

  test('refuses an uploaded image that reaches for another file', async () => {
    const storage = await dir()
    const path = await image('x.qcow2', 2)
    execFileSync('qemu-img', ['rebase', '-u', '-b', '/etc/shadow', '-F', 'raw', path])
    await expect(storage.importDisk(100, path, 'raw', quiet)).rejects.toThrow('backing file not allowed')
  })

  test('leaves nothing of an import that fails or is cancelled', async () => {
    const storage = await dir()
    const bad = join(root, 'bad.qcow2')
    await writeFile(bad, 'this is no qcow2')
    await expect(storage.importDisk(100, bad, 'qcow2', quiet)).rejects.toThrow('qemu-img')
    const source = join(root, 'big.raw')
    await writeFile(source, '')
    execFileSync('qemu-io', ['-f', 'raw', '-c', 'truncate 256M', '-c', 'write -P 1 0 256M', source], {
      stdio: 'pipe',
    })
    const aborted = new AbortController()
    const cancelled = storage.importDisk(100, source, 'qcow2', () => aborted.abort(), aborted.signal)
    await expect(cancelled).rejects.toThrow(
      /^copy failed: command '\/usr\/bin\/qemu-img convert .*received interrupt/,
    )
    expect(await storage.list()).toEqual([])
    expect(await readdir(join(root, 'local/images'))).toEqual([])
  })

  test('sweeps away what a killed daemon has left', async () => {
    const storage = await dir()
    const { path } = { path: join(root, 'local/images/.partial-vm-1-disk-0.qcow2') }
    await writeFile(path, 'half')
    await storage.open()
    expect(existsSync(path)).toBe(false)
  })

  test('makes linked clones, whose base cannot go before them', async () => {
    const storage = await dir()
    const disk = await storage.importDisk(110, await image('x.qcow2', 16), undefined, quiet)
    const base = await storage.toBase(disk.volid)
    expect(base.volid).toBe('local:110/base-110-disk-0.qcow2')
    const log: string[] = []
    const clone = await storage.linkedClone(base.volid, 130, (line) => log.push(line))
    expect(clone).toMatchObject({
      volid: 'local:110/base-110-disk-0.qcow2/130/vm-130-disk-0.qcow2',
      parent: base.volid,
      size: 16 * MiB,
    })
    expect(clone.used).toBeLessThan(MiB)
    expect(log[0]).toContain('(base=../110/base-110-disk-0.qcow2)')
    expect(log[1]).toContain(`images/130/vm-130-disk-0.qcow2'`)
    write(storage.path(clone.volid), '0x42')
    expect(holds(storage.path(base.volid), '0x41')).toBe(true)
    expect(await storage.clonesOf(base.volid)).toEqual([clone.volid])
    await expect(storage.remove(base.volid)).rejects.toThrow(
      "base volume '110/base-110-disk-0.qcow2' is still in use by linked clones",
    )
    const full = await storage.fullClone({ storage, volid: clone.volid }, 131, 'qcow2', quiet)
    await storage.remove(clone.volid)
    await storage.remove(base.volid)
    expect(holds(storage.path(full.volid), '0x42')).toBe(true)
    expect(await readdir(join(root, 'local/images'))).toEqual(['131'])
  })

  test('takes, lists, rolls back and deletes snapshots; clones from one', async () => {
    const storage = await dir()
    const { volid } = await storage.importDisk(110, await image('x.qcow2', 4), undefined, quiet)
    await storage.snapshot(volid, 'one')
    write(storage.path(volid), '0x42')
    await storage.snapshot(volid, 'two')
    expect(await storage.snapshots(volid)).toEqual(['one', 'two'])
    const clone = await storage.fullClone({ storage, volid, snapshot: 'one' }, 111, undefined, quiet)
    expect(holds(storage.path(clone.volid), '0x41')).toBe(true)
    await storage.rollback(volid, 'one')
    expect(holds(storage.path(volid), '0x41')).toBe(true)
    await storage.deleteSnapshot(volid, 'one')
    expect(await storage.snapshots(volid)).toEqual(['two'])
    const raw = await storage.createDisk(110, MiB, 'raw', quiet)
    await expect(storage.snapshot(raw.volid, 'one')).rejects.toThrow('snapshot feature is not available')
  })

  test('resizes, and fills the start of a disk', async () => {
    const storage = await dir()
    const { volid } = await storage.createDisk(110, 4 * MiB, 'qcow2', quiet)
    const log: string[] = []
    await storage.resize(volid, 8 * MiB, (line) => log.push(line))
    expect(log).toEqual(['Image resized.'])
    const content = join(root, 'seed.iso')
    await writeFile(content, Buffer.alloc(64 * 1024, 0x43))
    await storage.fill(volid, content)
    expect(holds(storage.path(volid), '0x43')).toBe(true)
    expect(await storage.find(volid)).toMatchObject({ size: 8 * MiB })
  })

  test('is full when its limit is reached, in the words of a full disk', async () => {
    const storage = await dir(4 * MiB)
    const log: string[] = []
    const source = await image('x.qcow2', 16)
    await expect(storage.importDisk(110, source, 'raw', (line) => log.push(line))).rejects.toThrow(
      /^copy failed: command '\/usr\/bin\/qemu-img convert .*vm-110-disk-0\.raw' failed: exit code 1$/,
    )
    expect(log.at(-1)).toMatch(/No space left on device$/)
    expect(await storage.list()).toEqual([])
    const { total, avail } = await storage.status()
    expect(total).toBe(4 * MiB)
    const file = storage.place('iso', 'a.iso')
    await writeFile(file.path, Buffer.alloc(MiB, 1))
    expect((await storage.status()).avail).toBeLessThanOrEqual(avail - MiB)
    await truncate(file.path, 0)
  })
})

describe('LVM-thin and ZFS, as seen from outside', () => {
  test('have raw disks only, in their own sizes, and no files', async () => {
    const storage = await pool('lvmthin')
    const disk = await storage.createDisk(100, 528 * 1024, undefined, quiet)
    expect(disk).toMatchObject({ volid: 'pool:vm-100-disk-0', format: 'raw', size: 4 * MiB })
    await expect(storage.createDisk(100, MiB, 'qcow2', quiet)).rejects.toThrow("unsupported format 'qcow2'")
    expect(() => storage.place()).toThrow("can't upload")
    const imported = await storage.importDisk(100, await image('x.qcow2', 18), undefined, quiet)
    expect(imported).toMatchObject({ volid: 'pool:vm-100-disk-1', format: 'raw', size: 20 * MiB })
    expect(holds(storage.path(imported.volid), '0x41')).toBe(true)
  })

  test('lvmthin: volumes of one guest come and go while another’s are looked for', async () => {
    const storage = await pool('lvmthin')
    const { volid } = await storage.createDisk(1, MiB, undefined, quiet)
    let isOver = false
    const templates = async () => {
      for (let turn = 0; turn < 8; turn += 1) {
        const disk = await storage.createDisk(2, MiB, undefined, quiet)
        await storage.remove((await storage.toBase(disk.volid)).volid)
      }
      isOver = true
    }
    const looks = async () => {
      while (!isOver) expect(await storage.find(volid)).toMatchObject({ vmid: 1 })
    }
    await Promise.all([templates(), looks(), looks(), looks()])
    expect((await storage.list()).map((one) => one.volid)).toEqual([volid])
  })

  test('lvmthin: a base may go before its clones; its data goes with the last', async () => {
    const storage = await pool('lvmthin')
    const disk = await storage.importDisk(110, await image('x.qcow2', 16), undefined, quiet)
    const base = await storage.toBase(disk.volid)
    expect(base.volid).toBe('pool:base-110-disk-0')
    const clone = await storage.linkedClone(base.volid, 130, quiet)
    expect(clone).toMatchObject({ volid: 'pool:vm-130-disk-0', size: 16 * MiB })
    expect(clone.parent).toBeUndefined()
    await storage.remove(base.volid)
    expect(await storage.list()).toMatchObject([{ volid: 'pool:vm-130-disk-0' }])
    expect(holds(storage.path(clone.volid), '0x41')).toBe(true)
    // A template made of a clone has a base of its own, over the first one's layer.
    const second = await storage.linkedClone((await storage.toBase(clone.volid)).volid, 140, quiet)
    await storage.remove('pool:base-130-disk-0')
    expect(holds(storage.path(second.volid), '0x41')).toBe(true)
    await storage.remove(second.volid)
    expect(await readdir(join(root, 'pool'))).toEqual([])
  })

  test('zfspool: a clone names its base, which stays as long as it', async () => {
    const storage = await pool('zfspool')
    const base = await storage.toBase((await storage.createDisk(110, MiB, undefined, quiet)).volid)
    const clone = await storage.linkedClone(base.volid, 130, quiet)
    expect(clone).toMatchObject({
      volid: 'pool:base-110-disk-0/vm-130-disk-0',
      parent: 'pool:base-110-disk-0',
    })
    expect(await storage.find(clone.volid)).toMatchObject({ volid: clone.volid })
    await expect(storage.remove(base.volid)).rejects.toThrow('is still in use by linked clones')
    await storage.remove(clone.volid)
    await storage.remove(base.volid)
    expect(await readdir(join(root, 'pool'))).toEqual([])
  })

  test('zfspool: only the latest snapshot can be rolled back to', async () => {
    const storage = await pool('zfspool')
    const { volid } = await storage.createDisk(110, MiB, undefined, quiet)
    await storage.snapshot(volid, 'one')
    await storage.snapshot(volid, 'two')
    await expect(storage.rollback(volid, 'one')).rejects.toThrow("'one' is not most recent snapshot")
    await storage.rollback(volid, 'two')
  })
})

describe('roots of containers', () => {
  const text = (path: string) => readFileSync(path).subarray(0, 5).toString()
  const fill = (path: string, content: string) => writeFile(path, content, { flag: 'r+' })

  test('are raw files on a directory, with the words of qemu-img and neither snapshots nor room for them', async () => {
    const storage = await dir()
    const log: string[] = []
    const volume = await storage.createRoot(300, 4 * MiB, (line) => log.push(line))
    const path = join(root, 'local/images/300/vm-300-disk-0.raw')
    expect(volume).toMatchObject({
      volid: 'local:300/vm-300-disk-0.raw',
      format: 'raw',
      size: 4 * MiB,
      vmid: 300,
    })
    expect(log).toEqual([`Formatting '${path}', fmt=raw size=${4 * MiB} preallocation=off`])
    expect(storage.path(volume.volid)).toBe(path)
    await expect(storage.snapshot(volume.volid, 's')).rejects.toThrow('snapshot feature is not available')
  })

  test.each(['lvmthin', 'zfspool'] as const)(
    'are raw underneath and thin to the outside on %s',
    async (type) => {
      const storage = await pool(type)
      const { volid, format, size } = await storage.createRoot(300, 4 * MiB, quiet)
      expect([volid, format, size]).toEqual(['pool:vm-300-disk-0', 'raw', 4 * MiB])
      const path = storage.path(volid)
      expect(path).toMatch(/\.raw$/)
      await fill(path, 'first')
      await storage.snapshot(volid, 'one')
      await fill(path, 'other')
      await storage.snapshot(volid, 'two')
      await fill(path, 'third')
      expect(await storage.snapshots(volid)).toEqual(['one', 'two'])
      expect((await storage.list()).map((volume) => volume.volid)).toEqual([volid])
      expect(text(storage.path(volid, 'one'))).toBe('first')
      const copy = await storage.cloneRoot({ storage, volid, snapshot: 'one' }, 301, quiet)
      expect(text(storage.path(copy.volid))).toBe('first')
      if (type === 'zfspool') await expect(storage.rollback(volid, 'one')).rejects.toThrow('not most recent')
      await storage.rollback(volid, 'two')
      expect(text(path)).toBe('other')
      await storage.deleteSnapshot(volid, 'two')
      await storage.rollback(volid, 'one')
      expect(text(path)).toBe('first')
      expect(await storage.snapshots(volid)).toEqual(['one'])
      await storage.remove(volid)
      await storage.remove(copy.volid)
      expect(await readdir(join(root, 'pool'))).toEqual([])
    },
  )

  test('make base volumes with linked clones, which ZFS remembers and LVM-thin does not', async () => {
    for (const type of ['lvmthin', 'zfspool'] as const) {
      const storage = await pool(type)
      const { volid } = await storage.createRoot(300, 4 * MiB, quiet)
      await fill(storage.path(volid), 'first')
      const base = await storage.toBase(volid)
      expect(base.volid).toBe('pool:base-300-disk-0')
      const clone = await storage.linkedClone(base.volid, 301, quiet)
      expect(text(storage.path(clone.volid))).toBe('first')
      await fill(storage.path(clone.volid), 'other')
      expect(text(storage.path(base.volid))).toBe('first')
      if (type === 'lvmthin') {
        expect(clone.volid).toBe('pool:vm-301-disk-0')
        await storage.remove(base.volid)
        expect(text(storage.path(clone.volid))).toBe('other')
        await storage.remove(clone.volid)
      } else {
        expect(clone).toMatchObject({ volid: 'pool:base-300-disk-0/vm-301-disk-0', parent: base.volid })
        await expect(storage.remove(base.volid)).rejects.toThrow('still in use by linked clones')
        await storage.remove(clone.volid)
        await storage.remove(base.volid)
      }
      expect(await readdir(join(root, 'pool'))).toEqual([])
    }
  })

  test('are copied between storages as they are, with their holes', async () => {
    const [files, thin] = [await dir(), await pool('lvmthin')]
    const { volid } = await files.createRoot(300, 5 * MiB, quiet)
    await fill(files.path(volid), 'first')
    const there = await thin.cloneRoot({ storage: files, volid }, 301, quiet)
    expect(there).toMatchObject({ volid: 'pool:vm-301-disk-0', size: 8 * MiB })
    expect(there.used).toBeLessThan(MiB)
    const back = await files.cloneRoot({ storage: thin, volid: there.volid }, 302, quiet)
    expect(back).toMatchObject({ volid: 'local:302/vm-302-disk-0.raw', format: 'raw', size: 8 * MiB })
    expect(text(files.path(back.volid))).toBe('first')
    const full = new AbortController()
    full.abort(new Error('enough'))
    await expect(thin.cloneRoot({ storage: files, volid }, 303, quiet, full.signal)).rejects.toThrow()
    expect((await thin.list()).map((volume) => volume.vmid)).toEqual([301])
  })
})
