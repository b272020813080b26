import { asImagebuildError } from '../core/errors.ts'
import type { Emit } from '../core/events.ts'
import type { Pve } from '../pve/client.ts'
import { type GuestKind, readConfig } from '../pve/guest-ref.ts'
import { fromTags, parseNote, shortDigest } from '../pve/marks.ts'
import { LOCKFILE, type Locked, readLockfile, writeLocked } from './lockfile.ts'

/** A current template, as far as a result names it. */
export interface CurrentTemplate {
  node: string
  vmid: number
  version: string
  /** of the definition, complete or cut short as tags have it */
  digest: string
}

/**
 * Brings the lockfile up to date with the templates of one image that are current now. The cluster is asked only where
 * the file says something else, and what is not current any more is not written. An image has one version there: where
 * nodes differ, those that have the first one's. A file that cannot be written is told, and makes nothing fail: what is
 * current is so.
 */
export async function lockCurrent(
  {
    pve,
    target,
    root,
    emit,
    signal,
  }: {
    pve: Pve
    target: string
    root: string
    emit: Emit
    signal: AbortSignal
  },
  { name: image, kind }: { name: string; kind: GuestKind },
  current: readonly CurrentTemplate[],
): Promise<void> {
  const [first] = current
  if (first === undefined) return
  const same = current.filter(({ version }) => version === first.version)
  const templates = Object.fromEntries(same.map(({ node, vmid }) => [node, vmid]))
  try {
    const before = (await readLockfile(root)).targets[target]?.[image]
    if (before !== undefined && says(before, first, templates)) return
    const { node, vmid, version } = first
    // Asked while nobody else writes: who has rolled back meanwhile has written that already.
    const entry = async (): Promise<Locked | undefined> => {
      const { tags, description } = await readConfig(pve, { kind, node, vmid })
      const marks = fromTags(vmid, tags)
      if (marks?.state !== 'current' || marks.version !== version) return undefined
      const { digest = '', built = '', archive } = parseNote(vmid, description) ?? {}
      return {
        ...{ version, digest, kind, built, templates },
        ...(archive?.volid !== undefined && { archive: archive.volid }),
        ...(marks.shared && { shared: true }),
      }
    }
    await writeLocked(root, { target, image, entry }, signal)
  } catch (error) {
    signal.throwIfAborted()
    emit({
      type: 'warning',
      image,
      message: `${LOCKFILE} is not up to date: ${asImagebuildError(error).message}`,
    })
  }
}

/** A version is made once, so what else is said of it cannot have changed. */
function says(
  entry: Locked,
  { version, digest }: CurrentTemplate,
  templates: Record<string, number>,
): boolean {
  const nodes = Object.keys(templates)
  return (
    entry.version === version &&
    shortDigest(entry.digest) === shortDigest(digest) &&
    nodes.length === Object.keys(entry.templates).length &&
    nodes.every((node) => entry.templates[node] === templates[node])
  )
}
