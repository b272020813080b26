import type { Emit } from '../core/events.ts'
import { pauses } from '../core/pauses.ts'

/** Says once for each pause of this process that there was one, until it is disposed of. */
export function tellPauses(emit: Emit): Disposable {
  return pauses.watch((seconds) => emit({ type: 'pause', seconds }))
}
