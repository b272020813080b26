import { expect, test } from 'vitest'
import { freeSubnet } from '../../src/lab/subnet.ts'

const BRIDGE = 'iblab-1a2b3c'
const cidr = (...routes: { dst: string; dev: string }[]) => freeSubnet(routes, BRIDGE)?.cidr

test('the first subnet, unless another interface has it', () => {
  expect(cidr({ dst: 'default', dev: 'eth0' }, { dst: '192.0.2.0/24', dev: 'eth0' })).toBe('10.83.0.0/24')
  expect(cidr({ dst: '10.83.0.0/24', dev: BRIDGE })).toBe('10.83.0.0/24')
  expect(cidr({ dst: '10.83.0.0/24', dev: 'iblab-ffffff' })).toBe('10.83.1.0/24')
  expect(cidr({ dst: '10.83.0.77', dev: 'tun0' }, { dst: '10.83.1.128/25', dev: 'tun0' })).toBe(
    '10.83.2.0/24',
  )
})

test('a lab that comes back keeps the one that it had, where that is still free', () => {
  const routes = [{ dst: '10.83.1.0/24', dev: BRIDGE }]
  expect(freeSubnet(routes, BRIDGE, '10.83.1.0/24')?.cidr).toBe('10.83.1.0/24')
  expect(freeSubnet([{ dst: '10.83.1.0/24', dev: 'eth1' }], BRIDGE, '10.83.1.0/24')?.cidr).toBe(
    '10.83.0.0/24',
  )
})

test('a company’s 10.0.0.0/8 leaves room for nothing', () => {
  expect(cidr({ dst: '10.0.0.0/8', dev: 'eth0' })).toBeUndefined()
})

test('half of the Internet through a VPN is no reason to give up', () => {
  expect(cidr({ dst: '0.0.0.0/1', dev: 'tun0' }, { dst: '128.0.0.0/1', dev: 'tun0' })).toBe('10.83.0.0/24')
})

test('guests with fixed addresses and DHCP stay apart', () => {
  expect(freeSubnet([], BRIDGE)).toEqual({
    cidr: '10.83.0.0/24',
    gateway: '10.83.0.1',
    netmask: '255.255.255.0',
    pool: { first: '10.83.0.100', last: '10.83.0.199' },
    dhcp: { first: '10.83.0.200', last: '10.83.0.250' },
  })
})
