import { afterEach, expect, test, vi } from 'vitest'
import { explainFolder } from '../../src/cli/folders.ts'
import { makeFolder } from '../../src/core/make-folder.ts'

afterEach(() => {
  vi.unstubAllEnvs()
})

test.each(['IMAGEBUILD_LAB_DIR', 'IMAGEBUILD_CACHE_DIR'])(
  '%s where nobody can make a folder',
  async (name) => {
    vi.stubEnv(name, '/proc/nowhere')
    const thrown = await makeFolder('/proc/nowhere/files').catch((error) => error)
    expect(explainFolder(thrown)).toMatchObject({
      code: 'prerequisite_missing',
      what: 'the folder /proc/nowhere cannot be used',
      next: `set ${name} to a folder of yours`,
    })
  },
)

test('a file that is missing in such a folder is another matter', () => {
  vi.stubEnv('IMAGEBUILD_LAB_DIR', '/tmp/lab')
  const missing = Object.assign(new Error('gone'), { code: 'ENOENT', syscall: 'open', path: '/tmp/lab/x' })
  expect(explainFolder(missing)).toBe(missing)
})
