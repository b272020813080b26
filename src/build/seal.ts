import { readFile } from 'node:fs/promises'
import { ImagebuildError } from '../core/errors.ts'
import type { Session } from '../ssh/session.ts'
import type { Access } from './access.ts'
import { type Build, outputOf } from './context.ts'
import { outputTail } from './provision.ts'

/** Seconds; trimming a large disk is the slowest part. */
const SEAL_SECONDS = 900

/** Makes the guest's disk one that can be cloned (see seal.sh); the guest powers itself off a moment later. */
export async function seal(session: Session, access: Access, build: Build): Promise<void> {
  const script = await readFile(new URL('seal.sh', import.meta.url), 'utf8')
  const result = await session.run(script, {
    sudo: true,
    env: { BUILD_USER: access.user, BUILD_KEY: access.userKey.publicKey.split(' ')[1] ?? '' },
    seconds: SEAL_SECONDS,
    signal: build.signal,
    onLine: (stream, line) => outputOf(build, 'seal', stream)(line),
  })
  if (result.code !== 0) {
    throw new ImagebuildError({
      code: 'build_failed',
      what: 'the guest could not be sealed',
      why: `seal.sh ended with exit code ${result.code}`,
      output: outputTail(result),
      next: 'run again with --on-error keep to look into the guest',
    })
  }
}
