import type { Emit } from '../core/events.ts'
import { isStale } from '../pve/claim.ts'
import type { Pve } from '../pve/client.ts'
import { destroyGuest } from '../pve/guests.ts'
import { fromTags, type Marks, parseNote } from '../pve/marks.ts'
import type { Place } from '../pve/place.ts'
import { nodeTemplates, readConfig, readNote, select, type Template } from '../pve/templates.ts'
import { filenameOf, listFiles, parseSeedName, removeFile } from '../pve/volumes.ts'
import type { Build } from './context.ts'

/** What interrupted runs leave behind, and how it goes. Only what bears our marks is ever looked at. */

interface OurGuest {
  node: string
  vmid: number
  marks: Marks
}

async function ourGuests(pve: Pve, node: string, namespace: string): Promise<OurGuest[]> {
  const rows = (await pve.api.nodes.$(node).qemu.$get()) as { vmid: number; tags?: string }[]
  return rows.flatMap(({ vmid, tags }) => {
    const marks = fromTags(vmid, tags)
    return marks?.namespace === namespace ? [{ node, vmid, marks }] : []
  })
}

/** Addresses of all temporary guests in the cluster, whoever builds with them. */
export async function busyAddresses(pve: Pve): Promise<Set<string>> {
  const rows = (await pve.api.cluster.resources.$get({ type: 'vm' })) as { vmid: number; tags?: string }[]
  return new Set(
    rows.flatMap(({ vmid, tags }) => {
      const address = fromTags(vmid, tags)?.address
      return address === undefined ? [] : [address]
    }),
  )
}

/**
 * Called under the claim, so whatever of this image is still marked as temporary has lost its builder.
 * @returns the current template or a finished candidate, where one has this digest already
 */
export async function removeLeftovers(
  build: Build,
  digest: string,
): Promise<{ current?: Template; candidate?: Template }> {
  const { pve, place, namespace, image, signal, emit } = build
  const templates = (await nodeTemplates(pve, place.node, namespace)).filter(
    ({ marks }) => marks.image === image.name,
  )
  const current = select(templates, image.name)
  const isWanted = async (template: Template) => (await readNote(pve, template))?.digest === digest
  const found: { current?: Template; candidate?: Template } = {}
  if (current !== undefined && (await isWanted(current))) found.current = current
  for (const guest of await ourGuests(pve, place.node, namespace)) {
    if (guest.marks.image !== image.name) continue
    const candidate = templates.find(({ vmid, marks }) => vmid === guest.vmid && marks.state === 'candidate')
    if (candidate !== undefined && found.candidate === undefined && (await isWanted(candidate))) {
      found.candidate = candidate
    } else if (guest.marks.state === 'building' || candidate !== undefined) {
      emit({
        type: 'info',
        image: image.name,
        message: `removing VM ${guest.vmid}, left by an interrupted run`,
      })
      await destroyGuest(pve, { ...guest, signal })
    }
  }
  for (const { volid, image: of, run } of await seeds(pve, place)) {
    if (of === image.name && !(await keptRuns(pve, place, namespace)).has(run))
      await removeFile(pve, place, volid)
  }
  return found
}

async function seeds(
  pve: Pve,
  place: Place,
): Promise<{ volid: string; image: string; run: string; expires: number }[]> {
  return (await listFiles(pve, place, 'iso')).flatMap((file) => {
    const seed = parseSeedName(filenameOf(file))
    return seed === undefined ? [] : [{ volid: file.volid, ...seed }]
  })
}

/** Runs whose failed guest somebody kept to look into. */
async function keptRuns(pve: Pve, place: Place, namespace: string): Promise<Set<string>> {
  const kept = (await ourGuests(pve, place.node, namespace)).filter(({ marks }) => marks.state === 'kept')
  const runs = await Promise.all(kept.map((guest) => runOf(pve, guest)))
  return new Set(runs.filter((run) => run !== undefined))
}

async function runOf(pve: Pve, guest: OurGuest): Promise<string | undefined> {
  return parseNote(guest.vmid, (await readConfig(pve, guest.node, guest.vmid)).description)?.run
}

export interface PruneRequest {
  pve: Pve
  place: Place
  namespace: string
  dryRun: boolean
  /** also guests that `--on-error keep` kept */
  kept: boolean
  emit: Emit
  signal: AbortSignal
}

export interface Pruned {
  kind: 'guest' | 'claim' | 'seed'
  id: string
  image: string
  why: string
}

/**
 * Removes what no living run needs: claims that ended or expired, guests and seeds whose claim is gone. Never a
 * finished template, and nothing without our marks.
 */
export async function prune(request: PruneRequest): Promise<Pruned[]> {
  const { pve, place, namespace, dryRun, signal } = request
  const guests = await ourGuests(pve, place.node, namespace)
  const living = new Set<string>()
  const doomed: (Pruned & { remove: () => Promise<void> })[] = []
  const destroy = (guest: OurGuest) => () => destroyGuest(pve, { ...guest, signal })

  for (const claim of guests.filter(({ marks }) => marks.state === 'claim')) {
    const note = parseNote(claim.vmid, (await readConfig(pve, claim.node, claim.vmid)).description)
    if (note !== undefined && !(await isStale(note))) living.add(note.run)
    else
      doomed.push({
        kind: 'claim',
        id: `VM ${claim.vmid}`,
        image: claim.marks.image,
        why: 'its builder is gone',
        remove: destroy(claim),
      })
  }
  for (const guest of guests.filter(({ marks }) => marks.state === 'building' || marks.state === 'kept')) {
    const run = await runOf(pve, guest)
    const isKept = guest.marks.state === 'kept'
    const expired = (guest.marks.expires ?? 0) * 1000 < Date.now()
    if (run !== undefined && (isKept ? !expired && !request.kept : living.has(run))) living.add(run)
    else
      doomed.push({
        kind: 'guest',
        id: `VM ${guest.vmid}`,
        image: guest.marks.image,
        why: isKept ? 'kept after a failure' : 'no run builds it',
        remove: destroy(guest),
      })
  }
  // Seeds last: while a guest has one in its drive, it is in use.
  for (const seed of await seeds(pve, place)) {
    if (living.has(seed.run)) continue
    doomed.push({
      kind: 'seed',
      id: seed.volid,
      image: seed.image,
      why: 'no run uses it',
      remove: () => removeFile(pve, place, seed.volid),
    })
  }
  for (const { remove } of dryRun ? [] : doomed) await remove()
  return doomed.map(({ remove: _, ...pruned }) => pruned)
}
