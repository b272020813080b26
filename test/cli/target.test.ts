import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { chooseTarget, withArchives } from '../../src/cli/target.ts'
import type { Project } from '../../src/definition/load.ts'

beforeEach(() => {
  vi.stubEnv('CI', undefined)
})
afterEach(() => {
  vi.unstubAllEnvs()
})

const project = (names: string[], defaultTarget?: string) =>
  ({
    configFile: 'imagebuild.yaml',
    targets: Object.fromEntries(names.map((name) => [name, { kind: 'lab' }])),
    ...(defaultTarget !== undefined && { defaultTarget }),
  }) as unknown as Project

describe('the target', () => {
  test('is the one that was asked for, else the default, else the only one', () => {
    expect(chooseTarget(project(['lab', 'home'], 'lab'), 'home').name).toBe('home')
    expect(chooseTarget(project(['lab', 'home'], 'home'), undefined).name).toBe('home')
    expect(chooseTarget(project(['home']), undefined).name).toBe('home')
    expect(chooseTarget(project(['lab', 'home'], 'lab'), '').name).toBe('lab')
  })

  test('must be chosen where there are several and no default', () => {
    expect(() => chooseTarget(project(['lab', 'home']), undefined)).toThrow(
      expect.objectContaining({
        code: 'usage',
        next: 'give --target or IMAGEBUILD_TARGET: one of lab, home',
      }),
    )
  })

  test('must be chosen on CI, even where there is a default', () => {
    vi.stubEnv('CI', '1')
    expect(() => chooseTarget(project(['lab'], 'lab'), undefined)).toThrow(
      expect.objectContaining({ code: 'usage' }),
    )
    expect(chooseTarget(project(['lab'], 'lab'), 'lab').name).toBe('lab')
  })

  test.each([
    ['hme', /did you mean.*home/i],
    ['production', /lab, home/],
    ['constructor', /lab, home/],
  ])('%s is none of them', (name, next) => {
    expect(() => chooseTarget(project(['lab', 'home']), name)).toThrow(
      expect.objectContaining({ code: 'usage', next: expect.stringMatching(next) }),
    )
  })
})

test('archives lie with the other images, unless the target says otherwise', () => {
  expect(withArchives({ disks: 'local-lvm', images: 'nas' })).toEqual({
    disks: 'local-lvm',
    images: 'nas',
    archives: 'nas',
  })
  expect(withArchives({ disks: 'local-lvm', images: 'nas', archives: 'local' }).archives).toBe('local')
})
