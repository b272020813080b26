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
  readonly #now: () => number
  readonly #timer: NodeJS.Timeout

  /** @param now milliseconds, monotonic */
  constructor(screen: Sink, now: () => number = () => performance.now()) {
    this.#screen = screen
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
      const line = [
        `silent for ${formatSeconds((now - heard) / 1000)}: waiting for ${WAITS_FOR[start.step] ?? start.label}`,
        `this step has taken ${formatSeconds((now - began) / 1000)}${start.lastSeconds === undefined ? '' : `, and last time ${formatSeconds(start.lastSeconds)}`}`,
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
