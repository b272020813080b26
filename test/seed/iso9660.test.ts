import { execFileSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir, userInfo } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type IsoFile, iso9660 } from '../../src/seed/iso9660.ts'

const DATE = new Date('2024-02-29T12:34:56Z')

const FILES: IsoFile[] = [
  { name: 'user-data', content: '#cloud-config\n{}\n' },
  { name: 'meta-data', content: '' },
  { name: 'network-config', content: `${'x'.repeat(2047)}\n` },
  { name: 'vendor-data', content: Uint8Array.from({ length: 5001 }, (_, n) => n % 251) },
]

const noXorriso = existsSync('/usr/bin/xorriso') ? false : 'xorriso is missing (apt-get install xorriso)'
const noBlkid = existsSync('/usr/sbin/blkid') ? false : 'blkid is missing (apt-get install util-linux)'
const noMount =
  userInfo().uid === 0 && readFileSync('/proc/filesystems', 'utf8').includes('iso9660')
    ? false
    : 'needs root and a kernel with iso9660'

const skipped = (why: string | false) => (why ? ` (skipped: ${why})` : '')

describe('the image', () => {
  const image = iso9660('cidata', FILES, DATE)

  /** A reader of its own, from the descriptor down, that knows nothing of how the image was laid out. */
  function read(iso: Buffer): { name: string; isoName: string; mode: number; content: Buffer }[] {
    let sector = 16
    while (iso[sector * 2048] !== 1) sector++
    const descriptor = iso.subarray(sector * 2048)
    expect(descriptor.toString('latin1', 1, 6)).toBe('CD001')
    const root = descriptor.subarray(156, 190)
    const directory = iso.subarray(
      root.readUInt32LE(2) * 2048,
      root.readUInt32LE(2) * 2048 + root.readUInt32LE(10),
    )
    const found = []
    for (let at = 0; at < directory.length && directory[at] !== 0; at += directory[at] as number) {
      const record = directory.subarray(at, at + (directory[at] as number))
      const length = record[32] as number
      let [name, mode] = ['', 0]
      for (
        let ext = 33 + length + ((length + 1) % 2);
        ext + 4 <= record.length;
        ext += record[ext + 2] as number
      ) {
        const signature = record.toString('latin1', ext, ext + 2)
        const end = ext + (record[ext + 2] as number)
        if (signature === 'NM') name = record.toString('utf8', ext + 5, end)
        if (signature === 'PX') mode = record.readUInt32LE(ext + 4)
      }
      expect(record.readUInt32LE(2)).toBe(record.readUInt32BE(6))
      expect(record.readUInt32LE(10)).toBe(record.readUInt32BE(14))
      const start = record.readUInt32LE(2) * 2048
      if (name) {
        const content = iso.subarray(start, start + record.readUInt32LE(10))
        found.push({ name, isoName: record.toString('latin1', 33, 33 + length), mode, content })
      }
    }
    return found
  }

  test('holds each file by its own name, for root alone', () => {
    const found = read(image)
    expect(found.map((file) => file.name)).toEqual([
      'meta-data',
      'network-config',
      'user-data',
      'vendor-data',
    ])
    for (const file of FILES) {
      const same = found.find((each) => each.name === file.name)
      expect(same?.content.equals(Buffer.from(file.content as string))).toBe(true)
      expect(same?.mode).toBe(0o100400)
    }
  })

  test('is whole sectors, has its label where blkid looks, and is the same each time', () => {
    expect(image.length % 2048).toBe(0)
    expect(image.toString('latin1', 0x8028, 0x8028 + 32).trim()).toBe('cidata')
    expect(iso9660('cidata', FILES, DATE).equals(image)).toBe(true)
    expect(iso9660('cidata', FILES.toReversed(), DATE).equals(image)).toBe(true)
    expect(iso9660('cidata', FILES, new Date(0)).equals(image)).toBe(false)
  })

  test('refuses what it cannot hold', () => {
    expect(() => iso9660('x'.repeat(33), [], DATE)).toThrow(/longer than 32/)
    expect(() => iso9660('x', [{ name: 'n'.repeat(31), content: '' }], DATE)).toThrow(/no name/)
    expect(() => iso9660('x', [{ name: '', content: '' }], DATE)).toThrow(/no name/)
    const many = Array.from({ length: 40 }, (_, n) => ({ name: `file-${n}`, content: '' }))
    expect(() => iso9660('x', many, DATE)).toThrow(/too many/)
    const alike = [
      { name: 'a-b', content: '' },
      { name: 'a_b', content: '' },
    ]
    expect(() => iso9660('x', alike, DATE)).toThrow(/differ only/)
  })
})

describe('other readers agree', () => {
  let directory: string
  let iso: string

  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), 'imagebuild-iso-'))
    iso = join(directory, 'seed.iso')
    await writeFile(iso, iso9660('cidata', FILES, DATE))
  })
  afterAll(() => rm(directory, { recursive: true, force: true }))

  test.skipIf(noXorriso)(
    `xorriso extracts the same files, and has nothing to complain of${skipped(noXorriso)}`,
    async () => {
      const out = join(directory, 'out')
      const report = execFileSync(
        '/usr/bin/xorriso',
        [
          '-no_rc',
          '-abort_on',
          'WARNING',
          '-indev',
          iso,
          '-pvd_info',
          '-osirrox',
          'on:auto_chmod_off',
          '-extract',
          '/',
          out,
          '-lsl',
          '/',
        ],
        { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] },
      )
      expect(report).toMatch(/Volume Id\s*: cidata/i)
      expect((await readdir(out)).sort()).toEqual(FILES.map((file) => file.name).sort())
      for (const file of FILES) {
        expect((await readFile(join(out, file.name))).equals(Buffer.from(file.content as string))).toBe(true)
        const { mode, mtime } = await stat(join(out, file.name))
        expect(mode & 0o7777).toBe(0o400)
        expect(mtime).toEqual(DATE)
      }
      execFileSync('chmod', ['-R', 'u+rwx', out])
    },
  )

  test.skipIf(noBlkid)(`blkid, by which cloud-init searches, finds the label${skipped(noBlkid)}`, () => {
    const found = execFileSync('/usr/sbin/blkid', ['-p', '-o', 'export', iso], { encoding: 'utf8' })
    expect(found).toMatch(/^LABEL=cidata$/m)
    expect(found).toMatch(/^TYPE=iso9660$/m)
  })

  test.skipIf(noMount)(`Linux mounts it${skipped(noMount)}`, async () => {
    const at = await mkdtemp(join(directory, 'mount-'))
    execFileSync('mount', ['-t', 'iso9660', '-o', 'loop,ro', iso, at])
    try {
      expect((await readdir(at)).sort()).toEqual(FILES.map((file) => file.name).sort())
      expect(await readFile(join(at, 'user-data'), 'utf8')).toBe('#cloud-config\n{}\n')
      expect((await stat(join(at, 'user-data'))).mode & 0o7777).toBe(0o400)
    } finally {
      execFileSync('umount', [at])
    }
  })
})
