import type { Event, Sink } from '../core/events.ts'
import { asCalled } from './called.ts'
import { style } from './output.ts'
import { subject } from './render.ts'

type Leak = Extract<Event, { type: 'leak' }>

/**
 * What could not be removed. It is told when that happens, among all else, and once more in the end, where people look:
 * some of it only they can remove.
 */
export class LeftBehind {
  readonly #leaks = new Map<string, Leak>()

  readonly sink: Sink = (event) => {
    // Of what was tried twice, the latest reason counts.
    if (event.type === 'leak') this.#leaks.set(event.resource, event)
  }

  /** Empty where nothing was left. */
  text(): string {
    if (this.#leaks.size === 0) return ''
    const lines = [...this.#leaks.values()].flatMap(({ resource, why, next, image, node }) => {
      const of = image === undefined ? '' : ` (${subject({ image, ...(node !== undefined && { node }) })})`
      return [`  ${resource}${of}: ${why}`, `  ${style('stderr', 'cyan', '→')} ${asCalled(next)}`]
    })
    return `left behind:\n${lines.join('\n')}\n`
  }
}
