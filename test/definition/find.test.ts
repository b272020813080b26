import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, describe, expect, test, vi } from 'vitest'
import { findConfig } from '../../src/definition/find.ts'
import { projectOnDisk } from './project-on-disk.ts'

afterEach(() => vi.unstubAllEnvs())

describe('findConfig', () => {
  test('upward from the working directory', async () => {
    vi.stubEnv('IMAGEBUILD_CONFIG', undefined)
    await using project = await projectOnDisk({})
    const deep = join(project.root, 'x/y')
    await mkdir(deep, { recursive: true })
    expect(await findConfig(deep)).toBe(join(project.root, 'imagebuild.yaml'))
  })
  test('what is named comes first: by option, then by environment; a folder will do', async () => {
    await using here = await projectOnDisk({})
    await using there = await projectOnDisk({ 'other.yaml': '' })
    vi.stubEnv('IMAGEBUILD_CONFIG', there.root)
    expect(await findConfig(here.root)).toBe(join(there.root, 'imagebuild.yaml'))
    expect(await findConfig(there.root, join(here.root, 'imagebuild.yaml'))).toBe(
      join(here.root, 'imagebuild.yaml'),
    )
    expect(await findConfig(there.root, 'other.yaml')).toBe(join(there.root, 'other.yaml'))
  })
  test('none there is an invalid definition, with the next step', async () => {
    vi.stubEnv('IMAGEBUILD_CONFIG', undefined)
    await expect(findConfig('/')).rejects.toMatchObject({
      code: 'definition_invalid',
      next: expect.stringContaining('--config'),
    })
    await expect(findConfig('/', 'nowhere')).rejects.toMatchObject({
      code: 'definition_invalid',
      what: 'there is no /nowhere',
    })
  })
})
