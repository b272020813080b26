import { readFile } from 'node:fs/promises'
import { ImagebuildError } from '../core/errors.ts'
import type { Session } from '../ssh/session.ts'
import type { Access } from './access.ts'
import { type Build, outputOf } from './context.ts'
import { outputTail } from './layer-run.ts'

type Stage = 'prepare' | 'finish' | 'seal'

const FAILED: Readonly<Record<Stage, string>> = {
  prepare: 'the guest could not be prepared',
  finish: 'what layers have put off to the end failed',
  seal: 'the guest could not be sealed',
}

/** Seconds; trimming a large disk is the slowest part. */
const SEAL_SECONDS = 900

/** What the plan wants done at the very end: it may shut this build's own client out, but for the session that it has. */
export async function hardenAtLast(session: Session, build: Build, atSeal: string): Promise<void> {
  await runScript('hardening at sealing', `set -eu\n${atSeal}`, {}, session, build)
}

/**
 * Before anything is done to the guest, since the first reload of sshd would shut the build out; and again when it is
 * sealed, since layers install and enable things (see ssh-unit.sh).
 */
export async function oneSshUnit(session: Session, build: Build, during: 'prepare' | 'seal'): Promise<void> {
  await runFile('ssh-unit.sh', { ROOT: '' }, session, build, during)
}

/**
 * `hold` before the first layer and after a reboot, `run` after the last and before a reboot: what packages do to the whole
 * system, such as a new initial RAM disk, happens once (see deferred.sh).
 */
export async function deferred(session: Session, build: Build, action: 'hold' | 'run'): Promise<void> {
  await runFile('deferred.sh', { ACTION: action }, session, build, action === 'hold' ? 'prepare' : 'finish')
}

/**
 * Makes the guest one that can be cloned (see seal.sh). A virtual machine powers itself off a moment later, since
 * nobody could become root in it any more; a container goes on running until it is stopped.
 */
export async function seal(session: Session, access: Access, build: Build): Promise<void> {
  await oneSshUnit(session, build, 'seal')
  if (build.image.kind === 'lxc') await runFile('seal-container.sh', {}, session, build)
  const env = {
    BUILD_USER: access.user,
    BUILD_KEY: access.userKey.publicKey.split(' ')[1] ?? '',
    AND_THEN: build.image.kind === 'vm' ? 'poweroff' : 'stay',
  }
  await runFile('seal.sh', env, session, build)
}

async function runFile(
  name: string,
  env: Record<string, string>,
  session: Session,
  build: Build,
  during: Stage = 'seal',
): Promise<void> {
  const script = await readFile(new URL(name, import.meta.url), 'utf8')
  await runScript(name, script, env, session, build, during)
}

async function runScript(
  name: string,
  script: string,
  env: Record<string, string>,
  session: Session,
  build: Build,
  during: Stage = 'seal',
): Promise<void> {
  const result = await session.run(script, {
    sudo: true,
    env,
    seconds: SEAL_SECONDS,
    signal: build.signal,
    onLine: (stream, line) => outputOf(build, during, stream)(line),
  })
  if (result.code !== 0) {
    throw new ImagebuildError({
      code: 'build_failed',
      what: FAILED[during],
      why: `${name} ended with exit code ${result.code}`,
      output: outputTail(result),
      next: 'run again with --on-error keep to look into the guest',
    })
  }
}
