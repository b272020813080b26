import type { Readable, Writable } from 'node:stream'
import { execa } from 'execa'
import { ImagebuildError } from '../core/errors.ts'
import { ARCHIVE_REQUIREMENTS } from './packing.ts'

/** A `zstd`, `xz` or `gzip` that runs. Its end (`using`) kills it and waits until it is gone. */
export interface PackerProcess extends AsyncDisposable {
  /** there unless `stdin` was a file */
  stdin: Writable
  /** there unless `stdout` was a file */
  stdout: Readable
  /** resolves when it ended well, otherwise rejects with what it printed */
  done: Promise<void>
}

/** The packer complained about what it was given: the bytes are not what they should be. */
export class PackerError extends Error {
  override readonly name = 'PackerError'
}

/**
 * Starts one.
 * @param files open files (descriptors) to read from or write to, past this process
 */
export function startPacker(
  [command, ...args]: readonly [command: string, ...args: string[]],
  files: { stdin?: number; stdout?: number },
  signal: AbortSignal,
): PackerProcess {
  const child = execa(command, args, {
    // Any descriptor will do; execa's types know the first three.
    stdin: (files.stdin ?? 'pipe') as 0,
    stdout: (files.stdout ?? 'pipe') as 1,
    buffer: { stdout: false },
    reject: false,
    cancelSignal: signal,
    // There is nothing that it could finish or clean up.
    killSignal: 'SIGKILL',
    // Options from the environment (ZSTD_CLEVEL, XZ_DEFAULTS, GZIP) would change what comes out.
    extendEnv: false,
    env: { PATH: process.env.PATH ?? '', LC_ALL: 'C.UTF-8' },
  })
  const ended = child.then((result) => {
    signal.throwIfAborted()
    if (!result.failed) return
    if (result.code === 'ENOENT') throw missing(command, result.cause)
    throw new PackerError(`${command}: ${String(result.stderr).trim() || result.shortMessage}`, {
      cause: result,
    })
  })
  // Whoever waits for it hears of it; until then it is not unhandled.
  ended.catch(() => {})
  // A broken pipe is told by how the process ended.
  const stdin = child.stdin as Writable | null
  stdin?.on('error', () => {})
  // When a process has ended, Node empties its pipes, unless somebody listens; who reads it may come later than that.
  const stdout = child.stdout as unknown as Readable | null
  stdout?.on('readable', () => {})
  return {
    stdin: stdin as Writable,
    stdout: stdout as Readable,
    done: ended,
    [Symbol.asyncDispose]: async () => {
      child.kill('SIGKILL')
      await ended.catch(() => {})
    },
  }
}

function missing(command: string, cause: unknown): ImagebuildError {
  const known = ARCHIVE_REQUIREMENTS.find((requirement) => requirement.command === command)
  return new ImagebuildError({
    code: 'prerequisite_missing',
    what: `rewriting an archive needs the command ${command}, which is not installed`,
    next: `apt-get update && apt-get install -y --no-install-recommends ${known?.package ?? command}`,
    cause,
  })
}
