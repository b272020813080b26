import { describe, expect, test, vi } from 'vitest'
import {
  type AddressPool,
  addressToNumber,
  identities,
  macOfAddress,
  macOfRole,
  numberToAddress,
  preferredIdentities,
  ROLES,
  roleOn,
} from '../../src/plan/network.ts'

const POOL: AddressPool = { first: '192.0.2.100', last: '192.0.2.119', prefix: 24, gateway: '192.0.2.1' }
const WHO = { namespace: 'homelab', image: 'debian-base', role: 'build', macPrefix: '02:1b' } as const

describe('identities that never change', () => {
  test('with a pool', () => {
    const all = [...identities(WHO, POOL)].slice(0, 3)
    expect(all).toMatchInlineSnapshot(`
      [
        {
          "address": "192.0.2.112",
          "mac": "02:1B:01:5D:75:66",
        },
        {
          "address": "192.0.2.113",
          "mac": "02:1B:9E:3B:47:3A",
        },
        {
          "address": "192.0.2.114",
          "mac": "02:1B:A5:4A:DD:0A",
        },
      ]
    `)
  })

  test('by DHCP, for each role and card', () => {
    const roles = (['build', 'verify-a', 'verify-b'] as const).map((role) => [
      ...identities({ ...WHO, role }, undefined),
    ])
    expect(roles).toMatchInlineSnapshot(`
      [
        [
          {
            "mac": "02:1B:B1:0D:C0:36",
          },
        ],
        [
          {
            "mac": "02:1B:06:D9:32:42",
          },
        ],
        [
          {
            "mac": "02:1B:F5:7C:01:0B",
          },
        ],
      ]
    `)
    expect(macOfRole('homelab', '02:1b', 'debian-base', 'build', 'net1')).not.toBe(roles[0]?.[0]?.mac)
  })
})

describe('a MAC address', () => {
  test.each(['02', '06', 'fe', '02:1b', '52:54:00', 'AA:bb:Cc'])(
    'below %s is complete, local and unicast',
    (prefix) => {
      for (const mac of [
        macOfAddress('homelab', prefix, '192.0.2.100'),
        macOfRole('homelab', prefix, 'web', 'build'),
      ]) {
        expect(mac).toMatch(/^[0-9A-F]{2}(:[0-9A-F]{2}){5}$/)
        expect(mac.startsWith(`${prefix.toUpperCase()}:`)).toBe(true)
        expect(Number.parseInt(mac.slice(0, 2), 16) & 3).toBe(2)
      }
    },
  )

  test('depends on the namespace: two sites with the same images do not clash', () => {
    expect(macOfAddress('a', '02', '192.0.2.1')).not.toBe(macOfAddress('b', '02', '192.0.2.1'))
    expect(macOfRole('a', '02', 'web', 'build')).not.toBe(macOfRole('b', '02', 'web', 'build'))
  })
})

describe('pairs of address and MAC', () => {
  test('belong together for ever, whichever image or role uses them', () => {
    const seen = new Map<string, string>()
    for (const image of ['web', 'db', 'debian-base'])
      for (const role of ['build', 'verify-a', 'verify-b'] as const)
        for (const { address = '', mac } of identities({ ...WHO, image, role }, POOL)) {
          expect(seen.get(address) ?? mac).toBe(mac)
          seen.set(address, mac)
        }
    expect(seen.size).toBe(20)
    expect(new Set(seen.values()).size).toBe(20)
  })

  test('come each once, from the preferred one round to the one before it', () => {
    const numbers = [...identities(WHO, POOL)].map(({ address = '' }) => addressToNumber(address))
    const first = addressToNumber(POOL.first)
    expect(
      numbers.map((number, offset) => (numbers[0] as number) - number + offset).map((n) => n % 20),
    ).toEqual(numbers.map(() => 0))
    expect([...numbers].sort((a, b) => a - b)).toEqual(numbers.map((_, index) => first + index))
  })

  test('leave out a gateway inside the range', () => {
    const inside = { ...POOL, gateway: '192.0.2.105' }
    const addresses = [...identities(WHO, inside)].map(({ address }) => address)
    expect(addresses).toHaveLength(19)
    expect(addresses).not.toContain('192.0.2.105')
  })

  test('a pool that is its gateway has none', () => {
    const none = { first: '192.0.2.1', last: '192.0.2.1', prefix: 24, gateway: '192.0.2.1' }
    expect([...identities(WHO, none)]).toEqual([])
  })
})

test('addresses are numbers and back, to the last one', () => {
  for (const address of ['0.0.0.0', '10.0.255.1', '192.0.2.100', '255.255.255.255'])
    expect(numberToAddress(addressToNumber(address))).toBe(address)
  expect(addressToNumber('255.255.255.255')).toBe(2 ** 32 - 1)
})

describe('preferred pairs', () => {
  test('of the roles of one image differ, also where their hashes choose the same address', () => {
    const tiny = { ...POOL, last: '192.0.2.102' }
    for (const image of ['web', 'db', 'debian-base', 'a', 'b', 'c']) {
      const pairs = preferredIdentities({ ...WHO, image }, tiny, ROLES)
      expect(new Set(pairs.map(({ address }) => address)).size).toBe(3)
      expect(pairs[0]).toEqual([...identities({ ...WHO, image }, tiny)][0])
    }
  })

  test.each([POOL, undefined])(
    'differ between the nodes that build one image; the first is as if it were alone',
    (pool) => {
      const [first, second] = [undefined, 'b'].map((node) =>
        preferredIdentities(
          WHO,
          pool,
          ROLES.map((role) => roleOn(role, node)),
        ),
      )
      expect(first).toEqual(preferredIdentities(WHO, pool, ROLES))
      const macs = [...(first ?? []), ...(second ?? [])].map(({ mac }) => mac)
      expect(new Set(macs).size).toBe(6)
    },
  )

  test('follow from the definition and the configuration alone: every lab, runner and day has the same', () => {
    const once = preferredIdentities(WHO, POOL, ROLES)
    vi.stubEnv('IMAGEBUILD_LAB_DIR', '/somewhere/else')
    vi.stubEnv('HOSTNAME', 'another')
    expect(preferredIdentities(structuredClone(WHO), structuredClone(POOL), ROLES)).toEqual(once)
    vi.unstubAllEnvs()
  })
})
