import { expect, test } from 'vitest'
import { freeMemory } from '../../src/core/spent-memory.ts'

test('a chunk that has its memory for itself gives it back', () => {
  const chunk = Buffer.allocUnsafeSlow(2 ** 16)
  freeMemory(chunk)
  expect(chunk.length).toBe(0)
  expect(chunk.buffer.byteLength).toBe(0)
})

test('one that shares it with others keeps it', () => {
  const whole = Buffer.allocUnsafeSlow(2 ** 16).fill(7)
  freeMemory(whole.subarray(0, 100))
  expect(whole.every((byte) => byte === 7)).toBe(true)
  expect(whole.length).toBe(2 ** 16)
})
