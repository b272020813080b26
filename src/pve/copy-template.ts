import type { Emit } from '../core/events.ts'
import type { GuestConfig } from './answers.ts'
import type { Pve } from './client.ts'
import { Guest, type GuestRequest } from './guest.ts'
import { guestLabel, readConfig } from './guest-ref.ts'
import { createGuest } from './guests.ts'
import { replaceNote } from './marking.ts'
import { foreignTags, type Marks, type Note, parseNote, renderNote, toTags } from './marks.ts'
import type { Place } from './place.ts'
import type { Template } from './templates.ts'

/** Seconds that Proxmox may take to copy a template's disks. */
const COPY_SECONDS = 7200

export interface TemplateCopy {
  place: Place
  /** names who makes it, for whoever finds it unfinished */
  run: string
  /** the fixed VMID that this is about */
  fixed: number
  /** that very VMID; when missing, one of the range */
  at?: number
  emit: Emit
  signal: AbortSignal
  onLine?: (line: string) => void
}

/**
 * A full copy of a template, which is a template too: its hardware with its cards' MACs, its cloud-init drive, its name, tags
 * and description. Proxmox gives no guest another VMID, so this is how a template gets one. Until its very last call it bears
 * the marks of a temporary guest.
 * @param marks what it is to have beside its VMID
 * @throws ImagebuildError, PveError; nothing of it is left then, or an event of type `leak` has said so
 */
export async function copyTemplate(
  pve: Pve,
  from: Template,
  copy: TemplateCopy,
  change: { marks: Omit<Marks, 'vmid'>; note?: Partial<Note> },
): Promise<Template> {
  const config = await readConfig(pve, from)
  const note = parseNote(from.vmid, config.description)
  if (note === undefined) throw new TypeError(`the note of ${guestLabel(from)} is not its own`)
  const { place, run, fixed, emit, signal } = copy
  const { namespace, image } = from.marks
  const expires = pve.clock.after(COPY_SECONDS)
  const request: GuestRequest = {
    ...{ kind: from.kind, place, image, run, emit, signal, seconds: COPY_SECONDS },
    ...(copy.onLine && { onLine: copy.onLine }),
    range: place.vmids.templates,
    cloneOf: { node: from.node, vmid: from.vmid, asConsumer: true },
    parameters: ({ vmid, token }) => ({
      name: nameOf(config) ?? from.name,
      tags: toTags({ vmid, namespace, image, state: 'building', expires, swap: fixed }),
      description: renderNote({
        ...{ schema: 1, vmid, namespace, image, kind: from.kind, tool: note.tool, run, guest: token },
        ...{ expires, swap: fixed },
      }),
      ...cards(config),
    }),
  }
  await using guest = await make(pve, request, copy.at)
  await guest.toTemplate()
  const { kind, node, vmid } = guest
  const marks: Marks = { ...change.marks, vmid }
  const written = {
    tags: toTags(marks, foreignTags(config.tags)),
    description: replaceNote(config.description ?? '', {
      ...note,
      ...change.note,
      vmid,
      guest: guest.token,
    }),
  }
  await guest.mark(written)
  guest.keep()
  return { kind, node, vmid, name: from.name, marks }
}

async function make(pve: Pve, request: GuestRequest, at: number | undefined): Promise<Guest> {
  if (at === undefined) return await createGuest(pve, request)
  const guest = new Guest(pve, request, at)
  try {
    await guest.create()
    return guest
  } catch (error) {
    await guest[Symbol.asyncDispose]()
    throw error
  }
}

/** A clone gets new MACs. */
function cards(config: GuestConfig): Record<string, string> {
  const found = Object.entries(config).filter(([key]) => /^net\d+$/.test(key))
  return Object.fromEntries(found.map(([key, value]) => [key, String(value)]))
}

/** Containers have a host name. */
function nameOf({ name, hostname }: GuestConfig): string | undefined {
  return name ?? (hostname === undefined ? undefined : String(hostname))
}
