import { readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import type { ApiError } from '../../../src/lab/api/errors.ts'
import { GUEST_OPTIONS, NET_FORMAT } from '../../../src/lab/api/guests/options.ts'
import { integer, optional, string, verifyParameters } from '../../../src/lab/api/parameters.ts'
import { parseProperties, printProperties } from '../../../src/lab/api/property-string.ts'
import { pathParameters } from '../../../src/lab/api/router.ts'
import { ROUTES } from '../../../src/lab/api/routes.ts'

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

const schemaFile = process.env.IMAGEBUILD_PVE_SCHEMA

interface SchemaProperty {
  optional?: number
  type?: string
  enum?: string[] | null
  minimum?: number | string
  maximum?: number
  maxLength?: number
  minLength?: number
}
type Schema = Record<
  string,
  Record<string, { parameters?: { properties?: Record<string, SchemaProperty> }; allowtoken?: number }>
>

describe.skipIf(schemaFile === undefined)(
  'against a reference schema (skipped unless IMAGEBUILD_PVE_SCHEMA names one)',
  () => {
    const schema: Schema = schemaFile === undefined ? {} : JSON.parse(readFileSync(schemaFile, 'utf8'))
    const known = ROUTES.filter(({ method, path }) => schema[path]?.[method] !== undefined)

    test('covers most routes', () => {
      expect(known.length).toBeGreaterThan(ROUTES.length * 0.8)
    })

    test.each(known.map((route) => [`${route.method} ${route.path}`, route] as const))(
      '%s',
      (_name, route) => {
        const properties = schema[route.path]?.[route.method]?.parameters?.properties ?? {}
        const rules = { ...pathParameters(route.path), ...route.parameters }
        // The reference writes numbered options once: net[n], efidisk0.
        const reference = (name: string) => properties[name] ?? properties[name.replace(/\d+$/, '[n]')]
        for (const [name, rule] of Object.entries(rules)) {
          const there = reference(name)
          expect(there, `${name} is not in the reference`).toBeDefined()
          if (!route.path.includes(`{${name}}`))
            expect([name, rule.optional === true]).toEqual([name, there?.optional === 1])
          expect([name, rule.type]).toEqual([name, there?.type])
          for (const fact of ['minimum', 'maximum', 'maxLength', 'minLength'] as const) {
            const value = there?.[fact]
            expect([name, fact, rule[fact]]).toEqual([
              name,
              fact,
              value === undefined ? undefined : Number(value),
            ])
          }
          if (there?.enum && rule.values)
            expect([name, [...rule.values].sort()]).toEqual([name, [...there.enum].sort()])
        }
        for (const name of Object.keys(properties)) {
          const ours = Object.keys(rules).some(
            (rule) => rule === name || rule.replace(/\d+$/, '[n]') === name,
          )
          expect([name, ours]).toEqual([name, true])
        }
      },
    )
  },
)
