import { describe, expect, test } from 'vitest'
import type { ApiError } from '../../../src/lab/api/errors.ts'
import { GUEST_OPTIONS, NET_FORMAT } from '../../../src/lab/api/guests/options.ts'
import { integer, optional, string, verifyParameters } from '../../../src/lab/api/parameters.ts'
import { parseProperties, printProperties } from '../../../src/lab/api/property-string.ts'

function errorsOf(work: () => unknown): Record<string, string> | undefined {
  try {
    work()
  } catch (error) {
    return (error as ApiError).errors
  }
  throw new Error('nothing was refused')
}

describe('parameters', () => {
  test('booleans and numbers come out as numbers, missing optional ones not at all', () => {
    const values = verifyParameters(GUEST_OPTIONS, { onboot: true, cores: '2', name: 'x' })
    expect(values).toEqual({ onboot: 1, cores: 2, name: 'x' })
  })

  test('what is missing, unknown or incomplete is named', () => {
    const rules = {
      vmid: integer(),
      checksum: optional(string({ requires: 'algorithm' })),
      algorithm: optional(string()),
    }
    expect(errorsOf(() => verifyParameters(rules, { checksum: 'a', bogus: 1 }))).toEqual({
      vmid: 'property is missing and it is not optional',
      bogus: 'property is not defined in schema and the schema does not allow additional properties',
      algorithm: "missing property - 'checksum' requires this property",
    })
  })

  test.each([
    ['net0', 'virtio=03:1B:AA:00:00:02', /net0\.macaddr: .*unicast MAC/],
    ['net0', 'virtio,tag=5000', /net0\.tag: value must have a maximum value of 4094/],
    ['scsi0', 'local:4,bogus=1', /scsi0\.bogus: property is not defined/],
    ['ipconfig0', 'ip=10.0.0.300/24', /ipv4 network configuration/],
    ['ipconfig0', 'gw=10.0.0.1', /gateway specified without/],
    ['boot', 'order=nonsense0', /invalid boot device 'nonsense0'/],
    ['tags', 'bad!tag', /invalid characters in tag/],
    ['sshkeys', 'ssh-ed25519 AAAA', /invalid urlencoded string/],
    ['memory', '8', /memory\.current: value must have a minimum value of 16/],
  ])('%s=%s is refused', (name, value, text) => {
    expect(errorsOf(() => verifyParameters(GUEST_OPTIONS, { [name]: value }))?.[name]).toMatch(text)
  })

  test('a property string survives being read and printed', () => {
    const net = parseProperties('virtio=BC:24:11:AA:BB:01,tag=30,bridge=vmbr0,firewall=yes', NET_FORMAT)
    expect(net).toEqual({
      model: 'virtio',
      macaddr: 'BC:24:11:AA:BB:01',
      tag: '30',
      bridge: 'vmbr0',
      firewall: '1',
    })
    expect(printProperties(net, NET_FORMAT)).toBe('virtio=BC:24:11:AA:BB:01,bridge=vmbr0,firewall=1,tag=30')
  })
})
