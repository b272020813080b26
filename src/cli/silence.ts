import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import type { Event, Sink } from '../core/events.ts'
import { formatSeconds, subject } from './render.ts'

/** Seconds without a word after which a person wants to know what is waited for; and between two such words. */
const SILENT_SECONDS = 30

/** Milliseconds between two looks. */
const LOOK_EVERY = 5000

/** What a step waits for while nothing is printed, by the step's name. */
const WAITS_FOR: Readonly<Record<string, string>> = {
  source: 'the source: a server, or the installation of its packages',
  create: 'Proxmox, which creates the guest',
  boot: 'the guest, which boots; the build goes on when its SSH server answers',
  prepare: 'the guest, which prepares itself on its first boot',
  'cloud-init': 'cloud-init in the guest',
  layer: 'the command in the guest',
  seal: 'the guest, from which all that clones must not share is removed',
  inventory: 'the guest, which lists what is in it',
  archive: 'Proxmox, which packs the container (vzdump)',
  shutdown: 'the guest, which shuts down',
  convert: 'Proxmox, which makes a template of the guest',
  verify: 'the two clones, and what they are asked',
  'stand-in': 'Proxmox, which copies the template',
  swap: 'Proxmox, which copies the template',
  wait: 'another run, which builds this image',
}

type StepStart = Extract<Event, { type: 'step.start' }>

interface Running {
  start: StepStart
  /** milliseconds, of the step's begin, and of the last word: its own, or ours */
  began: number
  heard: number
  said: number
}

/**
 * A screen on which a silent step says what it waits for, for how long, and how long it took last time. Its words look like
 * the step's own output; logs and JSON do not have them.
 */
export class Silence implements Disposable {
  readonly #running = new Map<string, Running>()
  readonly #screen: Sink
  readonly #times: StepTimes
  readonly #now: () => number
  readonly #timer: NodeJS.Timeout

  /** @param now milliseconds, monotonic */
  constructor(screen: Sink, times: StepTimes, now: () => number = () => performance.now()) {
    this.#screen = screen
    this.#times = times
    this.#now = now
    this.#timer = setInterval(() => this.look(), LOOK_EVERY)
    this.#timer.unref()
  }

  readonly sink: Sink = (event) => {
    this.#screen(event)
    const now = this.#now()
    if (event.type === 'step.start') {
      this.#running.set(subject(event), { start: event, began: now, heard: now, said: now })
    } else if (event.type === 'step.end') {
      this.#running.delete(subject(event))
      if (event.ok) this.#times.learn(event, event.seconds)
    } else if (event.type === 'output' || event.type === 'progress') {
      const running = this.#running.get(subject(event))
      if (running !== undefined) running.heard = running.said = now
    }
  }

  look(): void {
    const now = this.#now()
    for (const running of this.#running.values()) {
      const { start, began, heard, said } = running
      if (now - said < SILENT_SECONDS * 1000) continue
      running.said = now
      const last = this.#times.of(start)
      const line = [
        `silent for ${formatSeconds((now - heard) / 1000)}: waiting for ${WAITS_FOR[start.step] ?? start.label}`,
        `this step has taken ${formatSeconds((now - began) / 1000)}${last === undefined ? '' : `, and last time ${formatSeconds(last)}`}`,
      ].join('; ')
      const { image, node, step } = start
      this.#screen({
        ...{ type: 'output', image, step, stream: 'task', line },
        ...(node !== undefined && { node }),
      })
    }
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer)
  }
}

/** How long steps took last time on this target, in seconds: a file beside the logs, which may be deleted. */
export class StepTimes {
  readonly #path: string
  readonly #target: string
  readonly #seconds: Record<string, number>

  constructor(path: string, target: string) {
    this.#path = path
    this.#target = target
    this.#seconds = read(path)
  }

  of(step: Pick<StepStart, 'image' | 'step' | 'label'>): number | undefined {
    return this.#seconds[this.#key(step)]
  }

  learn(step: Pick<StepStart, 'image' | 'step' | 'label'>, seconds: number): void {
    this.#seconds[this.#key(step)] = Math.round(seconds * 10) / 10
  }

  /** A time that cannot be kept is no reason to lose a build. */
  save(): void {
    try {
      mkdirSync(dirname(this.#path), { recursive: true })
      // Another run may have learned meanwhile.
      writeFileSync(
        this.#path,
        `${JSON.stringify({ ...read(this.#path), ...this.#seconds }, undefined, 2)}\n`,
      )
    } catch {
      // The next run does without.
    }
  }

  #key({ image, step, label }: Pick<StepStart, 'image' | 'step' | 'label'>): string {
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
