import { mkdtemp, rmdir } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { execa } from 'execa'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { ownFile } from './own.ts'
import { ended, startTarget, type Target } from './target.ts'

/** Clause 24.6 of pve.md: a storage that is full for guests, not for the calls that make their disks. */

/** Writes the BIOS's memory to the disk it was booted from, 32 KiB after 32 KiB, for ever. */
const WRITER = Buffer.from(
  [
    '31c0 8ed8 8ed0 bc007c', // xor ax,ax; mov ds,ax; mov ss,ax; mov sp,7c00
    'be197c b80043 cd13', // again: mov si,packet; mov ax,4300; int 13 (write)
    '668306217c40 ebf0', // add dword [packet+8],40; jmp again
    '1000 4000 0000 00f0 4000000000000000', // packet: 40 sectors from f000:0000 to sector 40
  ]
    .join('')
    .replaceAll(' ', ''),
  'hex',
)
/** bytes of the storage, and of the disk on it */
const ROOM = 8 << 20
const DISK = 64 << 20

const isLab = process.env.IMAGEBUILD_TEST_PVE_URL === undefined
let folder: string
let target: Target

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'lab-full-'))
  if (isLab) await execa('mount', ['-t', 'tmpfs', '-o', `size=${ROOM}`, 'lab-full', folder])
  target = await startTarget({ smallRoot: folder })
})
afterAll(async () => {
  await target?.stop()
  if (isLab) await execa('umount', [folder])
  await rmdir(folder)
})

test('24.6 a guest that fills it is stopped in the middle of its write, and counts as running', async ({
  skip,
}) => {
  const { client, node, files, small } = target
  if (small === undefined || !target.lab) return skip('fills a storage and then makes it larger: the lab’s')
  const image = Buffer.alloc(1 << 20)
  WRITER.copy(image)
  image.writeUInt16BE(0x55aa, 510)
  const upload = await client.upload(`/nodes/${node}/storage/${files}/upload`, [
    ['content', 'import'],
    ['filename', { name: ownFile(target.own, 'writer.raw'), data: image }],
  ])
  expect((await ended(target, upload)).exitstatus).toBe('OK')
  const vmid = await target.vmid()
  const guest = `/nodes/${node}/qemu/${vmid}`
  const ide0 = `${small}:0,import-from=${files}:import/${ownFile(target.own, 'writer.raw')}`
  // Nobody notices that the disk is larger than what it lies on.
  const create = await client.post(`/nodes/${node}/qemu`, { vmid, memory: 16, ide0 })
  expect((await ended(target, create)).exitstatus).toBe('OK')
  const grow = await client.put(`${guest}/resize`, { disk: 'ide0', size: `${DISK >> 20}M` })
  expect((await ended(target, grow)).exitstatus).toBe('OK')
  const act = async (what: string) =>
    expect((await ended(target, await client.post(`${guest}/status/${what}`))).exitstatus).toBe('OK')
  await act('start')
  const status = async () => (await client.get(`${guest}/status/current`)).body.data
  const patient = { timeout: 60_000 }
  await expect.poll(status, patient).toMatchObject({ status: 'running', qmpstatus: 'io-error' })
  const storage = (await client.get(`/nodes/${node}/storage/${small}/status`)).body.data as { avail: number }
  expect(storage.avail).toBeLessThan(64 << 10)
  // With more room it goes on where it was, when somebody says so.
  await execa('mount', ['-o', `remount,size=${2 * DISK}`, folder])
  expect(await status()).toMatchObject({ qmpstatus: 'io-error' })
  await act('resume')
  expect(await status()).toMatchObject({ status: 'running', qmpstatus: 'running' })
  await act('stop')
  expect((await ended(target, await client.delete(guest))).exitstatus).toBe('OK')
})
