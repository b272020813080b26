import { randomBytes } from 'node:crypto'
import { readFile, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type ErrorFacts, ImagebuildError } from '../core/errors.ts'

/**
 * `stopped.json` in a lab's folder: why its daemon ends. It is there before anything of the lab goes, so that whoever works
 * on the lab learns that it was stopped, and not that a connection broke.
 */
export interface Stopped {
  /** the daemon's process */
  pid: number
  /** ISO 8601, UTC */
  at: string
  /** `lab stop`, the name of a signal, or what else the daemon says */
  how: string
  /** the process that has stopped it, where it was one */
  by?: number
  /** why it could not begin: for whoever has started it */
  refused?: Pick<ErrorFacts, 'code' | 'what' | 'why' | 'next'>
}

const NAME = 'stopped.json'

/** In one step: a reader sees all of it or none. */
export async function writeStopped(dir: string, stopped: Omit<Stopped, 'at'>): Promise<void> {
  const partial = join(dir, `${NAME}.${randomBytes(4).toString('hex')}`)
  const text = JSON.stringify({ ...stopped, at: new Date().toISOString() })
  await writeFile(partial, `${text}\n`, { mode: 0o600 })
  await rename(partial, join(dir, NAME))
}

/** A daemon that cannot begin says why, for whoever has started it. Gives back what it was given, to be thrown. */
export async function writeRefused(dir: string, thrown: unknown): Promise<unknown> {
  if (thrown instanceof ImagebuildError) {
    const { code, what, why, next } = thrown
    const refused = { code, what, ...(why !== undefined && { why }), ...(next !== undefined && { next }) }
    await writeStopped(dir, { pid: process.pid, how: what, refused })
  }
  return thrown
}

/** Undefined where this daemon has not been stopped. */
export async function readStopped(dir: string, pid: number): Promise<Stopped | undefined> {
  const text = await readFile(join(dir, NAME), 'utf8').catch(() => undefined)
  const stopped = text === undefined ? undefined : (JSON.parse(text) as Stopped)
  return stopped?.pid === pid ? stopped : undefined
}

/** A new daemon may have the process id of an old one. */
export async function forgetStopped(dir: string): Promise<void> {
  await rm(join(dir, NAME), { force: true })
}
