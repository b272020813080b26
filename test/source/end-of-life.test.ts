import { describe, expect, test } from 'vitest'
import { recipeFor } from '../../src/source/bootstrap-recipe.ts'
import { catalogIds } from '../../src/source/catalog.ts'
import { endOfLife } from '../../src/source/end-of-life.ts'

const on = (day: string, name: string) => endOfLife(name, new Date(`${day}T23:59:59Z`))
const DEBIAN = 'https://www.debian.org/releases/'
const UBUNTU = 'https://documentation.ubuntu.com/project/release-team/list-of-releases/'

describe('Debian has regular support and LTS', () => {
  test.each([
    ['2026-01-10', undefined],
    [
      '2026-01-11',
      'regular security support of Debian 12 ends on 2026-07-11; LTS goes on until 2028-06-30, for fewer packages',
    ],
    [
      '2026-07-11',
      'regular security support of Debian 12 ends on 2026-07-11; LTS goes on until 2028-06-30, for fewer packages',
    ],
    [
      '2026-07-12',
      'regular security support of Debian 12 ended on 2026-07-11; LTS goes on until 2028-06-30, for fewer packages',
    ],
    [
      '2028-06-30',
      'regular security support of Debian 12 ended on 2026-07-11; LTS goes on until 2028-06-30, for fewer packages',
    ],
    ['2028-07-01', 'LTS of Debian 12 ended on 2028-06-30: it gets no security updates any more'],
  ])('on %s', (day, message) => {
    const hint = `Debian 13 is the newest here; dates: ${DEBIAN}`
    expect(on(day, 'debian/12')).toEqual(message && { message, hint })
  })
})

describe('Ubuntu has standard support, and Ubuntu Pro after it', () => {
  test.each([
    ['2026-11-30', undefined],
    [
      '2026-12-01',
      'standard support of Ubuntu 22.04 ends on 2027-06-01; security updates need Ubuntu Pro from then on',
    ],
    [
      '2027-06-01',
      'standard support of Ubuntu 22.04 ends on 2027-06-01; security updates need Ubuntu Pro from then on',
    ],
    ['2027-06-02', 'standard support of Ubuntu 22.04 ended on 2027-06-01: security updates need Ubuntu Pro'],
  ])('on %s', (day, message) => {
    const hint = `Ubuntu 26.04 is the newest here; dates: ${UBUNTU}`
    expect(on(day, 'ubuntu/22.04')).toEqual(message && { message, hint })
  })
})

test('the newest has no newer one', () => {
  expect(on('2040-01-01', 'debian/13')?.hint).toBe(`dates: ${DEBIAN}`)
  expect(on('2040-01-01', 'ubuntu/26.04-minimal')?.hint).toBe(`dates: ${UBUNTU}`)
})

test.each([
  ['ubuntu/24.04-minimal', 'Ubuntu 24.04'],
  ['noble', 'Ubuntu 24.04'],
  ['debian-12-standard', 'Debian 12'],
  ['debian-12-standard_12.7-1_amd64.tar.zst', 'Debian 12'],
  ['ubuntu-22.04-standard_22.04-1_amd64.tar.zst', 'Ubuntu 22.04'],
])('%s is %s', (name, release) => {
  expect(on('2040-01-01', name)?.message).toContain(` of ${release} `)
})

test.each(['fedora-42-default', 'debian/120', 'debian/1', 'sid', 'ubuntu/24.10', ''])(
  'nothing is said of "%s"',
  (name) => {
    expect(on('2040-01-01', name)).toBeUndefined()
  },
)

const releases = [...new Set([...catalogIds().vm, ...catalogIds().lxc])]
test.each(releases)('%s of the catalog has an end, and a suite that it can be built from instead', (id) => {
  const suite = recipeFor(id, 'amd64')?.suite ?? ''
  expect(on('2040-01-01', id)).toBeDefined()
  expect(on('2040-01-01', suite)).toEqual(on('2040-01-01', id))
})
