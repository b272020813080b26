import pLimit from 'p-limit'
import type { Pve } from './client.ts'
import type { Note } from './marks.ts'
import { allTemplates, readNote, type Template } from './templates.ts'

/**
 * What templates there are, and their notes, asked once: for those who look at many images and change nothing. Whoever changes
 * anything asks anew.
 */
export interface Glance {
  /** all of ours: those on the nodes that were named, as they were then, and as the cluster's list had them elsewhere */
  templates: readonly Template[]
  note(template: Template): Promise<Note | undefined>
}

/** Notes that are asked for at once. */
const AT_ONCE = 8

export async function takeGlance(
  pve: Pve,
  where: { namespace: string; nodes: readonly string[] },
): Promise<Glance> {
  const templates = await allTemplates(pve, where)
  const limit = pLimit(AT_ONCE)
  const notes = new Map<number, Promise<Note | undefined>>()
  return {
    templates,
    note: (template) => {
      const note = notes.get(template.vmid) ?? limit(() => readNote(pve, template))
      notes.set(template.vmid, note)
      return note
    },
  }
}
