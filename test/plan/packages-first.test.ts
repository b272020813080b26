import { describe, expect, test } from 'vitest'
import { firstPackages, mayPrecede, packagesOf } from '../../src/plan/packages-first.ts'
import { makePlan } from '../../src/plan/plan.ts'
import { imageSpec, packagesLayer, shellLayer, WHERE } from './spec.ts'

const HARDENED = {
  profile: 'baseline',
  containers: false,
  postQuantum: false,
  except: {},
  where: WHERE,
} as const

const planOf = (change: Parameters<typeof imageSpec>[0]) =>
  makePlan(imageSpec(change), { sourceIdentity: 'sha256:0', ssh: { authorities: [] } })
const namesOf = (change: Parameters<typeof imageSpec>[0]) =>
  firstPackages(planOf(change).layers).map(({ name }) => name)

describe('an image begins with', () => {
  const first = packagesLayer({ name: 'first', install: ['curl'] })
  const second = packagesLayer({ name: 'second', install: ['htop', 'curl'] })

  test('the packages of its hardening, and of its layers up to the first that does anything else', () => {
    const layers = [first, second, shellLayer(), packagesLayer({ name: 'late' })]
    expect(namesOf({ layers, hardening: HARDENED })).toEqual(['hardening: packages', 'first', 'second'])
    expect(namesOf({ layers })).toEqual(['first', 'second'])
  })

  test.each([
    ['an upgrade', packagesLayer({ upgrade: true })],
    ['a removal', packagesLayer({ remove: ['nano'] })],
    ['a script', shellLayer()],
  ])('nothing that comes after %s', (_what, layer) => {
    expect(namesOf({ layers: [layer, first] })).toEqual([])
    expect(namesOf({ layers: [first, layer, second] })).toEqual(['first'])
  })

  test('each package once, without those that are there', () => {
    expect(packagesOf([first, second])).toEqual(['curl', 'htop'])
    expect(packagesOf([first, second], ['curl'])).toEqual(['htop'])
  })
})

test('hardening refuses packages after all layers, and its measures come last', () => {
  const names = planOf({ layers: [shellLayer({ name: 'own' })], hardening: HARDENED }).layers.map(
    ({ layer }) => layer.name,
  )
  expect(names.slice(0, 2)).toEqual(['hardening: packages', 'own'])
  expect(names.indexOf('hardening: packages that must not be there')).toBeGreaterThan(1)
  expect(names.at(-1)).toBe('hardening: units')
})

describe('packages may be there before cloud-init', () => {
  test.each([
    [{ timezone: 'UTC', locale: 'C.UTF-8', disable_root: true, ssh_pwauth: false }, true],
    [{ package_update: false, package_upgrade: false }, true],
    [{ package_update: true }, false],
    [{ apt: { sources: {} } }, false],
    [{ runcmd: ['true'] }, false],
    [{ write_files: [] }, false],
    [{ groups: ['docker'] }, false],
    [{ some_module_of_tomorrow: 1 }, false],
    [{}, true],
  ])('%j: %s', (config, answer) => {
    expect(mayPrecede(config)).toBe(answer)
  })
})
