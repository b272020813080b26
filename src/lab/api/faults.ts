import { createHash } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import type { FaultSettings } from '../faults.ts'

type Kind = 'goingDown' | 'lists' | 'connections'

/** Resolves after so many seconds, or when the signal aborts. */
export type Pause = (seconds: number, signal: AbortSignal) => Promise<void>

const sleep: Pause = (seconds, signal) => delay(seconds * 1000, undefined, { signal }).catch(() => undefined)

/** What goes wrong in a lab, by its settings. */
export class Faults {
  readonly settings: FaultSettings
  readonly #pause: Pause
  readonly #closing = new AbortController()
  readonly #occasions = new Map<Kind, number>()

  constructor(settings: FaultSettings, pause: Pause = sleep) {
    this.settings = settings
    this.#pause = pause
  }

  /** Nobody waits any longer. */
  close(): void {
    this.#closing.abort()
  }

  async pause(seconds: number, signal?: AbortSignal): Promise<void> {
    const signals = [this.#closing.signal, ...(signal ? [signal] : [])]
    if (seconds > 0) await this.#pause(seconds, AbortSignal.any(signals))
  }

  /** The next occasion of this kind: whether it is hit. */
  hits(kind: Kind): boolean {
    const rate = this.settings.passingErrors?.[kind] ?? 0
    return rate > 0 && this.#draw(kind) < rate
  }

  /** Whether a connection ends without an answer: before the work, or after it. */
  cutsOff(): 'before' | 'after' | undefined {
    const rate = this.settings.passingErrors?.connections ?? 0
    if (rate === 0) return undefined
    const drawn = this.#draw('connections')
    return drawn < rate / 2 ? 'before' : drawn < rate ? 'after' : undefined
  }

  /** From 0 up to 1. Each kind has a sequence of its own, which requests of other kinds do not shift. */
  #draw(kind: Kind): number {
    const occasion = (this.#occasions.get(kind) ?? 0) + 1
    this.#occasions.set(kind, occasion)
    const text = `${this.settings.passingErrors?.seed} ${kind} ${occasion}`
    return createHash('sha256').update(text).digest().readUInt32BE() / 2 ** 32
  }
}
