import type { Pve } from './client.ts'
import {
  type ClusterRow,
  clusterGuests,
  type GuestRef,
  type GuestRow,
  guestLabel,
  nodeGuests,
  readConfig,
} from './guest-ref.ts'
import { compareVersions, fromTags, type Marks, type Note, parseNote, type State } from './marks.ts'

/** Proxmox is the store: what templates there are, which one counts, and how that changes. */
export interface Template extends GuestRef {
  name: string
  marks: Marks
}

/**
 * All templates of ours in the cluster, by one request. What another guest inherited by cloning is not in it.
 */
export async function clusterTemplates(pve: Pve, namespace: string): Promise<Template[]> {
  return templatesIn(await clusterGuests(pve), namespace)
}

/** The templates of ours in a list of the cluster. */
export function templatesIn(rows: readonly ClusterRow[], namespace: string): Template[] {
  return rows.flatMap((row) => asTemplate(row, row.node, namespace))
}

/**
 * What bears the tags of a finished template in a list of the cluster, and is not called a template there. Tags are those
 * of this moment, `template` is up to ten seconds old: most likely it has become one just now. But its node may be down, or
 * somebody has made it an ordinary guest again: its node must be asked.
 */
export function unlistedIn(rows: readonly ClusterRow[], namespace: string): Template[] {
  return rows.flatMap((row) => {
    if (row.template) return []
    const found = asTemplate({ ...row, template: true }, row.node, namespace)
    return found.filter(({ marks: { state } }) => FINISHED.includes(state))
  })
}

const FINISHED: readonly State[] = ['current', 'previous', 'retired']

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
 * The template that a selector means: `current` (also the empty selector), `previous`, or a version. Several may be
 * marked current, while a promotion is under way or where one was cut off: the highest turn counts, and what had the
 * turn before it is the previous one, whatever it is marked. On several nodes: the first one of those that are equal.
 * One on a shared storage counts on every node.
 */
export function select(
  templates: readonly Template[],
  image: string,
  selector = 'current',
  node?: string,
): Template | undefined {
  const wanted = selector === '' ? 'current' : selector
  const there = templates.filter(
    (template) =>
      template.marks.image === image &&
      (node === undefined || template.node === node || template.marks.shared) &&
      !isLeaving(template.marks),
  )
  if (wanted === 'previous') {
    const nodes = [...new Set(there.map((template) => template.node))]
    return first(nodes.flatMap((one) => beforeCurrent(there.filter((template) => template.node === one))))
  }
  return first(
    there.filter(({ marks }) => (wanted === 'current' ? marks.state === wanted : marks.version === wanted)),
  )
}

/** Somebody is removing this template: it was once current, and has an expiry all the same. */
export function isLeaving({ state, expires }: Marks): boolean {
  return expires !== undefined && (state === 'current' || state === 'previous' || state === 'retired')
}

/** Of one image on one node: what was current before the current one. */
function beforeCurrent(templates: readonly Template[]): Template[] {
  const current = first(templates.filter(({ marks }) => marks.state === 'current'))
  const before = first(
    templates.filter(
      (template) =>
        template.vmid !== current?.vmid &&
        (template.marks.state === 'current' || template.marks.state === 'previous') &&
        !isCopyOf(template, current),
    ),
  )
  return before === undefined ? [] : [before]
}

/** While a fixed VMID is taken over, one version is there twice: a stand-in, or what is about to go because it has a copy. */
export function isCopyOf({ node, marks }: Template, other: Template | undefined): boolean {
  return (
    (marks.standin === true || marks.swap !== undefined) &&
    marks.version === other?.marks.version &&
    node === other?.node
  )
}

function first(templates: readonly Template[]): Template | undefined {
  return [...templates].sort(byStanding)[0]
}

/** Which one counts, that one first: the highest turn, then the newest version; last a stand-in, and what has a copy at a fixed VMID. */
export function byStanding(a: Template, b: Template): number {
  const isCurrent = ({ marks }: Template) => Number(marks.state === 'current')
  const isPassing = ({ marks }: Template) => Number((marks.standin ?? false) || marks.swap !== undefined)
  return (
    (b.marks.turn ?? 0) - (a.marks.turn ?? 0) ||
    isCurrent(b) - isCurrent(a) ||
    byVersion(b, a) ||
    isPassing(a) - isPassing(b) ||
    (a.node < b.node ? -1 : a.node > b.node ? 1 : a.vmid - b.vmid)
  )
}

/** By version, as marks are. */
export function byVersion(a: Template, b: Template): number {
  return compareVersions(a.marks.version, b.marks.version)
}

/** The version for a template finished now: UTC date and the next serial of that day. */
export function nextVersion(taken: readonly string[], now: Date): string {
  const date = now.toISOString().slice(0, 10).replaceAll('-', '')
  const serials = taken
    .filter((version) => new RegExp(`^${date}\\.\\d+$`).test(version))
    .map((version) => Number(version.split('.')[1]))
  return `${date}.${Math.max(0, ...serials) + 1}`
}

/** The same of several nodes. */
export async function placesTemplates(
  pve: Pve,
  nodes: readonly string[],
  namespace: string,
): Promise<Template[]> {
  return (await Promise.all(nodes.map((node) => nodeTemplates(pve, node, namespace)))).flat()
}

/** All templates of ours: as they are at this moment on these nodes, and as the cluster's list has them elsewhere. */
export async function allTemplates(
  pve: Pve,
  { namespace, nodes }: { namespace: string; nodes: readonly string[] },
): Promise<Template[]> {
  const [cluster, ...near] = await Promise.all([
    clusterTemplates(pve, namespace),
    ...nodes.map((node) => nodeTemplates(pve, node, namespace)),
  ])
  const far = cluster.filter(({ node }) => !nodes.includes(node))
  return [...near.flat(), ...far]
}

/** The same of one image. */
export async function imageTemplates(
  pve: Pve,
  { image, ...where }: { namespace: string; image: string; nodes: readonly string[] },
): Promise<Template[]> {
  return (await allTemplates(pve, where)).filter(({ marks }) => marks.image === image)
}

export async function readNote(pve: Pve, guest: GuestRef): Promise<Note | undefined> {
  return parseNote(guest.vmid, (await readConfig(pve, guest)).description)
}
