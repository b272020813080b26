import { describe, expect, test } from 'vitest'
import { wantsListsEarly } from '../../src/build/package-lists.ts'
import { packagesLayer, shellLayer, WHERE } from '../plan/spec.ts'

const fragment = (config: Record<string, unknown>) => ({ name: 'some', config, where: WHERE })
const layers = [packagesLayer({})]

describe('package lists are fetched beside cloud-init', () => {
  test.each([
    {},
    { timezone: 'Etc/UTC', locale: 'C.UTF-8' },
    { package_update: false, package_upgrade: false },
  ])('where it has nothing to do with packages: %o', (config) => {
    expect(wantsListsEarly(layers, [fragment(config)])).toBe(true)
  })

  test.each([
    { packages: ['nginx'] },
    { package_update: true },
    { apt: { sources: {} } },
    { runcmd: ['apt-get update'] },
    { bootcmd: [] },
    { write_files: [] },
    { something_new: {} },
  ])('but not where it might: %o', (config) => {
    expect(wantsListsEarly(layers, [fragment({ timezone: 'Etc/UTC' }), fragment(config)])).toBe(false)
  })

  test('nor where no layer wants packages', () => {
    expect(wantsListsEarly([shellLayer()], [])).toBe(false)
  })
})
