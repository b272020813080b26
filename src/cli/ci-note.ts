import { digestOfReasons, type ImageState } from '../plan/staleness.ts'
import type { Pve } from '../pve/client.ts'
import { mark } from '../pve/marking.ts'
import type { Note } from '../pve/marks.ts'
import type { Template } from '../pve/templates.ts'

/** What scheduled runs remember of an image, in the notes of its current templates: no runner has a memory of its own. */

/** One more failure for these reasons, or the first for them. */
export async function noteFailure(
  pve: Pve,
  templates: readonly Template[],
  state: Pick<ImageState, 'reasons' | 'digest'>,
): Promise<void> {
  const reasons = digestOfReasons(state)
  const at = pve.clock.date().toISOString()
  await change(pve, templates, ({ failures, ...note }) => ({
    ...note,
    failures: { count: failures?.reasons === reasons ? failures.count + 1 : 1, reasons, at },
  }))
}

/** The image is worked on again. */
export async function forgetFailures(pve: Pve, templates: readonly Template[]): Promise<void> {
  await change(pve, templates, ({ failures, ...note }) => note)
}

export async function noteUnmended(
  pve: Pve,
  templates: readonly Template[],
  unmended: string[],
): Promise<void> {
  await change(pve, templates, (note) => ({ ...note, unmended }))
}

async function change(pve: Pve, templates: readonly Template[], note: (old: Note) => Note): Promise<void> {
  for (const template of templates) await mark(pve, template, () => ({}), note)
}
