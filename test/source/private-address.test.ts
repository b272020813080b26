import { expect, test } from 'vitest'
import { isPrivateHost } from '../../src/source/private-address.ts'

test.each([
  '127.0.0.1',
  '10.1.2.3',
  '172.31.0.1',
  '192.168.1.1',
  '169.254.169.254',
  '100.64.0.1',
  '0.0.0.0',
  '[::1]',
  '[::]',
  '[fd00::1]',
  '[fe80::1]',
  '[::ffff:127.0.0.1]',
  '[::127.0.0.1]',
  '[fec0::1]',
  '[64:ff9b::10.0.0.1]',
  '[64:ff9b::a9fe:a9fe]',
  '[64:ff9b:1::1]',
  '[2002:c0a8:101::1]',
  '192.0.0.8',
  new URL('http://2130706433/').hostname,
])('%s is nobody’s on the Internet', (host) => {
  expect(isPrivateHost(host)).toBe(true)
})

test.each([
  '151.101.2.132',
  '172.32.0.1',
  '[2a04:4e42::644]',
  '[64:ff9b::151.101.2.132]',
  '[2002:9765:284::1]',
  '192.0.1.1',
  'deb.debian.org',
])('%s may be anybody’s', (host) => {
  expect(isPrivateHost(host)).toBe(false)
})
