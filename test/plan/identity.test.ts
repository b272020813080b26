import { describe, expect, test } from 'vitest'
import { canonicalJson, choose, digestBytes, digestOf } from '../../src/plan/identity.ts'

describe('canonical JSON', () => {
  test('one text for one value, whatever the order of its keys', () => {
    const one = { b: [1, { y: null, x: 'ü"\n' }], a: true, c: undefined }
    const two = { a: true, b: [1, { x: 'ü"\n', y: null }] }
    expect(canonicalJson(one)).toBe('{"a":true,"b":[1,{"x":"ü\\"\\n","y":null}]}')
    expect(canonicalJson(two)).toBe(canonicalJson(one))
  })

  test('the order of a list counts, and so do types', () => {
    expect(canonicalJson([1, 2])).not.toBe(canonicalJson([2, 1]))
    expect(canonicalJson(['1'])).not.toBe(canonicalJson([1]))
    expect(canonicalJson({})).not.toBe(canonicalJson([]))
  })
})

test('digests are SHA-256 with their algorithm in front', () => {
  // printf '{"a":1}' | sha256sum
  const known = 'sha256:015abd7f5cc57a2dd94b7590f04ad8084273905ee33ec5cebeae62276a97f862'
  expect(digestOf({ a: 1 })).toBe(known)
  expect(digestBytes('{"a":1}')).toBe(known)
  expect(digestBytes(Buffer.from('{"a":1}'))).toBe(known)
})

describe('choose', () => {
  test('gives the same number on every machine', () => {
    expect(choose(100, 'claim', 'homelab', 'debian-base')).toBe(GOLDEN.claim)
    expect(choose(20, 'slot', 'homelab', 'debian-base', 'build')).toBe(GOLDEN.slot)
  })

  test('keeps its parts apart, and spreads', () => {
    expect(choose(2 ** 40, 'ab', 'c')).not.toBe(choose(2 ** 40, 'a', 'bc'))
    const numbers = Array.from({ length: 500 }, (_, index) => choose(10, 'image', String(index)))
    expect(new Set(numbers)).toEqual(new Set([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]))
  })
})

/** They must never change: every user's claims and addresses hang on them. */
const GOLDEN = { claim: 97, slot: 12 }
