import type { Readable } from 'node:stream'
import { ImagebuildError } from '../core/errors.ts'
import type { Emit } from '../core/events.ts'
import { DeadlineError } from '../core/scope.ts'
import type { SecretRegistry } from '../core/secrets.ts'
import type { Layer } from '../definition/spec.ts'
import { lastLines } from '../ssh/output.ts'
import type { RunResult, Session } from '../ssh/session.ts'

/** One command of a layer in the guest, and how its failure is told as one of that layer. */

/** What a layer needs to run: a session in the guest, and where events go. */
export interface Provisioning {
  session: Session
  secrets: SecretRegistry
  image: string
  signal: AbortSignal
  emit: Emit
}

/** Tells a failure of the work as one of this layer, with its place in the definition. */
export async function asLayer(layer: Layer, to: Provisioning, work: () => Promise<void>): Promise<void> {
  try {
    await work()
  } catch (error) {
    if (to.signal.aborted || (error instanceof ImagebuildError && error.where !== undefined)) throw error
    const cause = error instanceof ImagebuildError ? error : undefined
    const isLate = [error, cause?.cause].some((one) => one instanceof DeadlineError)
    throw new ImagebuildError({
      code: cause?.code ?? 'build_failed',
      what: `layer “${layer.name}” failed`,
      where: layer.where,
      why: isLate
        ? `it ran longer than its timeout of ${layer.timeoutSeconds} s`
        : (cause?.message ?? (error as Error).message),
      ...(cause && { output: cause.output }),
      next:
        cause?.next ??
        (isLate
          ? 'raise its `timeout` in the definition if it needs more; --on-error keep leaves the guest for you to look into'
          : 'run again with --on-error keep to look into the guest'),
      cause: error,
    })
  }
}

/** Runs a command as root, shows what it prints while it runs, and ends it when the layer's time is over. */
export async function runLayer(
  layer: Layer,
  to: Provisioning,
  command: string,
  env: Record<string, string>,
  stdin?: Readable,
): Promise<RunResult> {
  return await to.session.run(command, {
    sudo: true,
    env,
    ...(stdin && { stdin }),
    seconds: layer.timeoutSeconds,
    signal: to.signal,
    onLine: (stream, line) => to.emit({ type: 'output', image: to.image, step: 'layer', stream, line }),
  })
}

/** A command of the layer that has ended with another exit code than 0. */
export function failed(
  layer: Layer,
  result: RunResult,
  facts: { why: string; next: string },
): ImagebuildError {
  return new ImagebuildError({
    code: 'build_failed',
    what: `layer “${layer.name}” failed`,
    where: layer.where,
    ...facts,
    output: outputTail(result),
  })
}

/** The last lines of what a command printed, for an error: those on stderr, which tell most, at the end. */
export function outputTail({ stdout, stderr }: RunResult): string[] {
  const printed = [stdout, stderr].map((text) => text.trimEnd()).filter((text) => text !== '')
  return lastLines(printed.join('\n'))
}
