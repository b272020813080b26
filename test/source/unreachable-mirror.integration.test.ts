import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import type { ImagebuildError } from '../../src/core/errors.ts'
import { bootstrapRootfs } from '../../src/source/bootstrap.ts'

const notRoot = process.getuid?.() !== 0

test.skipIf(notRoot)(`a mirror where nobody listens${notRoot ? ' (skipped: needs root)' : ''}`, async () => {
  const cacheDir = await mkdtemp(join(tmpdir(), 'imagebuild-apt-'))
  try {
    const mirror = 'http://127.0.0.1:9/debian'
    const recipe = {
      distribution: 'debian',
      suite: 'trixie',
      arch: 'amd64',
      mirror,
      securityMirror: mirror,
    } as const
    const error = await bootstrapRootfs(recipe, { cacheDir, signal: AbortSignal.timeout(120_000) }).catch(
      (thrown: ImagebuildError) => thrown,
    )
    expect(error).toMatchObject({ code: 'unreachable', what: expect.stringContaining(mirror) })
    // Not the hooks of mmdebstrap, quoted.
    expect((error as ImagebuildError).message).not.toContain('customize-hook')
  } finally {
    await rm(cacheDir, { recursive: true })
  }
})
