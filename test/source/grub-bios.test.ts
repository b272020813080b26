import { expect, test } from 'vitest'
import { biosLoader } from '../../src/source/grub-bios.ts'

const boot = Buffer.alloc(512, 0x11)
boot.writeUInt16LE(0xaa55, 510)

test('boot code points at the core, and leaves the partition table alone', () => {
  const { bootCode } = biosLoader(boot, Buffer.alloc(1024), 2048)
  expect(bootCode.length).toBe(440)
  expect(bootCode.readBigUInt64LE(0x5c)).toBe(2048n)
  expect(bootCode.subarray(0x66, 0x68)).toEqual(Buffer.from([0x90, 0x90]))
  expect(boot[0x66]).toBe(0x11)
})

test('the core lists what follows its first sector, and keeps the load segment', () => {
  const image = Buffer.alloc(512 * 5 + 1, 0x22)
  image.writeUInt16LE(0x820, 510)
  const { core } = biosLoader(boot, image, 2048)
  expect(core.length).toBe(512 * 6)
  expect(core.readBigUInt64LE(500)).toBe(2049n)
  expect(core.readUInt16LE(508)).toBe(5)
  expect(core.readUInt16LE(510)).toBe(0x820)
})

test('refuses what is neither', () => {
  expect(() => biosLoader(Buffer.alloc(512), Buffer.alloc(1024), 1)).toThrow('boot.img')
  expect(() => biosLoader(boot, Buffer.alloc(100), 1)).toThrow('core.img')
})
