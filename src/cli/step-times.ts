import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import type { Event, Sink } from '../core/events.ts'

type StepStart = Extract<Event, { type: 'step.start' }>
type Step = Pick<StepStart, 'image' | 'step' | 'label'>

/** How long steps took last time on this target, in seconds: a file beside the logs, which may be deleted. */
export class StepTimes {
  readonly #path: string
  readonly #target: string
  readonly #known: Record<string, number>
  readonly #learned: Record<string, number> = {}

  constructor(path: string, target: string) {
    this.#path = path
    this.#target = target
    this.#known = read(path)
  }

  /** The same events with what is known, and what can be learned from them is learned. */
  told(sink: Sink): Sink {
    return (event) => {
      if (event.type === 'step.end' && event.ok) this.#learn(event, event.seconds)
      sink(event.type === 'step.start' ? this.#withLast(event) : event)
    }
  }

  #withLast(start: StepStart): StepStart {
    const key = this.#key(start)
    const lastSeconds = this.#learned[key] ?? this.#known[key]
    return lastSeconds === undefined ? start : { ...start, lastSeconds }
  }

  #learn(step: Step, seconds: number): void {
    this.#learned[this.#key(step)] = Math.round(seconds * 10) / 10
  }

  /** A time that cannot be kept is no reason to lose a build. */
  save(): void {
    try {
      mkdirSync(dirname(this.#path), { recursive: true })
      // Another run may have learned meanwhile.
      const all = { ...read(this.#path), ...this.#learned }
      writeFileSync(this.#path, `${JSON.stringify(all, undefined, 2)}\n`)
    } catch {
      // The next run does without.
    }
  }

  #key({ image, step, label }: Step): string {
    return [this.#target, image, step, label].join(' / ')
  }
}

function read(path: string): Record<string, number> {
  try {
    const found: unknown = JSON.parse(readFileSync(path, 'utf8'))
    const entries = Object.entries(found ?? {}).filter((entry) => typeof entry[1] === 'number')
    return Object.fromEntries(entries)
  } catch {
    return {}
  }
}
