import type { Pve } from './client.ts'
import {
  type ClusterRow,
  clusterGuests,
  type GuestRef,
  type GuestRow,
  guestApi,
  guestLabel,
  nodeGuests,
  readConfig,
} from './guest-ref.ts'
import {
  foreignTags,
  fromTags,
  type Marks,
  type Note,
  parseNote,
  renderNote,
  toTags,
  type VerifySummary,
} from './marks.ts'

/** Proxmox is the store: what templates there are, which one counts, and how that changes. */
export interface Template extends GuestRef {
  name: string
  marks: Marks
}

/**
 * All templates of ours in the cluster, by one request. What another guest inherited by cloning is not in it.
 * Proxmox refreshes `template` here only every ten seconds, so a template of a moment ago may be missing.
 */
export async function clusterTemplates(pve: Pve, namespace: string): Promise<Template[]> {
  return templatesIn(await clusterGuests(pve), namespace)
}

/** The templates of ours in a list of the cluster. */
export function templatesIn(rows: readonly ClusterRow[], namespace: string): Template[] {
  return rows.flatMap((row) => asTemplate(row, row.node, namespace))
}

/** All templates of ours on one node, as they are at this moment. */
export async function nodeTemplates(pve: Pve, node: string, namespace: string): Promise<Template[]> {
  return (await nodeGuests(pve, node)).flatMap((row) => asTemplate(row, node, namespace))
}

function asTemplate(row: GuestRow, node: string, namespace: string): Template[] {
  const marks = row.template ? fromTags(row.vmid, row.tags) : undefined
  if (marks?.namespace !== namespace) return []
  return [{ kind: row.kind, node, vmid: row.vmid, name: row.name ?? guestLabel(row), marks }]
}

/**
 * The template that a selector means: `current` (also the empty selector), `previous`, or a version. While a
 * promotion is under way two may be marked current; the newer one counts.
 */
export function select(
  templates: readonly Template[],
  image: string,
  selector = 'current',
  node?: string,
): Template | undefined {
  const wanted = selector === '' ? 'current' : selector
  return templates
    .filter((template) => template.marks.image === image && (node === undefined || template.node === node))
    .filter(({ marks }) =>
      wanted === 'current' || wanted === 'previous' ? marks.state === wanted : marks.version === wanted,
    )
    .sort(byVersion)
    .at(-1)
}

/** Versions are `<date>.<serial>`: by date, then by serial as a number. */
export function byVersion(a: Template, b: Template): number {
  const [dateA = '', serialA = '0'] = (a.marks.version ?? '').split('.')
  const [dateB = '', serialB = '0'] = (b.marks.version ?? '').split('.')
  return dateA < dateB ? -1 : dateA > dateB ? 1 : Number(serialA) - Number(serialB)
}

/** The version for a template finished now: UTC date and the next serial of that day. */
export function nextVersion(taken: readonly string[], now: Date): string {
  const date = now.toISOString().slice(0, 10).replaceAll('-', '')
  const serials = taken
    .filter((version) => new RegExp(`^${date}\\.\\d+$`).test(version))
    .map((version) => Number(version.split('.')[1]))
  return `${date}.${Math.max(0, ...serials) + 1}`
}

export async function readNote(pve: Pve, guest: GuestRef): Promise<Note | undefined> {
  return parseNote(guest.vmid, (await readConfig(pve, guest)).description)
}

/** Gives a guest other marks (and a note, if given), unless somebody changed it in between. */
async function mark(
  pve: Pve,
  template: Template,
  change: { [Key in keyof Marks]?: Marks[Key] | undefined },
  note?: (old: Note) => Note,
): Promise<void> {
  const config = await readConfig(pve, template)
  const { held: _, ...marks } = fromTags(template.vmid, config.tags) ?? template.marks
  const old = parseNote(template.vmid, config.description)
  await guestApi(pve, template).config.$put({
    tags: toTags({ ...marks, ...change } as Marks, foreignTags(config.tags)),
    ...(note && old && { description: replaceNote(config.description ?? '', note(old)) }),
    digest: config.digest,
  })
}

/** Writes down how verifying a template ended; `artifacts` are the SHA-256 of reports that lie elsewhere. */
export async function recordVerification(
  pve: Pve,
  template: Template,
  { verify, artifacts }: { verify: VerifySummary; artifacts: Record<string, string> },
): Promise<void> {
  const how = verify.inside === 'verified' ? 'inside' : 'outside'
  await mark(pve, template, { verified: verify.failed === 0 ? how : undefined }, (note) => ({
    ...note,
    verify,
    artifacts: { ...note.artifacts, ...artifacts },
  }))
}

/**
 * Gives a finished guest the marks of a template, its note and the tags that its definition wants.
 * What temporary marks it had are gone then.
 */
export async function setMarks(
  pve: Pve,
  template: Template,
  tags: readonly string[],
  description: string,
): Promise<void> {
  await guestApi(pve, template).config.$put({ tags: toTags(template.marks, tags), description })
}

function replaceNote(description: string, note: Note): string {
  const text = description.slice(0, description.indexOf('```imagebuild')).trimEnd()
  return renderNote(note, text === '' ? undefined : text)
}

/**
 * Makes a candidate the current template. The new one is marked before the old one loses its mark, so that at
 * no moment there is none.
 */
export async function promote(pve: Pve, candidate: Template): Promise<void> {
  const all = await nodeTemplates(pve, candidate.node, candidate.marks.namespace)
  const others = all.filter(
    ({ vmid, marks }) => marks.image === candidate.marks.image && vmid !== candidate.vmid,
  )
  const current = select(others, candidate.marks.image)
  await mark(pve, candidate, { state: 'current' }, (note) => ({
    ...note,
    ...(current && { previous: current.vmid }),
  }))
  if (current === undefined) return
  await mark(pve, current, { state: 'previous' })
  for (const other of others) {
    // Also a second one marked current, which a promotion that was interrupted has left.
    if (other !== current && (other.marks.state === 'current' || other.marks.state === 'previous'))
      await mark(pve, other, { state: 'retired' })
  }
}
