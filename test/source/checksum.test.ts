import { expect, test } from 'vitest'
import { findInList, formatChecksum, parseChecksum } from '../../src/source/checksum.ts'

const a = 'a'.repeat(64)
const b = 'b'.repeat(128)

test('reads checksums with and without a prefix', () => {
  expect(parseChecksum(`sha256:${a.toUpperCase()}`)).toEqual({ algorithm: 'sha256', value: a })
  expect(parseChecksum(b)).toEqual({ algorithm: 'sha512', value: b })
  expect(formatChecksum(parseChecksum(b))).toBe(`sha512:${b}`)
})

test.each(['', 'abc', `sha512:${a}`, `md5:${'a'.repeat(32)}`, `${a}g`])('refuses "%s"', (text) => {
  expect(() => parseChecksum(text)).toThrow('is not a checksum')
})

test('a list of text and binary lines, with a name that ends like another', () => {
  const list = `${'1'.repeat(64)}  not-disk.img\r\n${a} *disk.img\r\n${b}  disk.img\n`
  expect(findInList(list, 'disk.img', 'sha256', 'x').value).toBe(a)
  expect(findInList(list, 'disk.img', 'sha512', 'x').value).toBe(b)
})
