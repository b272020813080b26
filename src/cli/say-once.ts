import type { Sink } from '../core/events.ts'

/** A screen for which one warning is one, of however many images it is told. Logs and JSON have it for each. */
export function sayOnce(screen: Sink): Sink {
  const said = new Set<string>()
  return (event) => {
    if (event.type === 'warning') {
      if (said.has(event.message)) return
      said.add(event.message)
    }
    screen(event)
  }
}
