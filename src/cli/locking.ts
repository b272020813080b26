import { relative } from 'node:path'
import { packageListFile, readPackageText } from '../build/package-lists.ts'
import { PACKAGES } from '../build/records.ts'
import { asImagebuildError } from '../core/errors.ts'
import type { Emit } from '../core/events.ts'
import type { GuestConfig } from '../pve/answers.ts'
import type { Pve } from '../pve/client.ts'
import { type GuestKind, readConfig } from '../pve/guest-ref.ts'
import { fromTags, parseNote, shortDigest } from '../pve/marks.ts'
import { reportsFolder } from './folders.ts'
import { LOCKFILE, type Locked, readLockfile, writeLocked } from './lockfile.ts'
import { areListed, type NodeList, writePackageLists } from './package-files.ts'

/** A current template, as far as a result names it. */
export interface CurrentTemplate {
  node: string
  vmid: number
  version: string
  /** of the definition, complete or cut short as tags have it */
  digest: string
}

/** Where it is written down, and whom to ask. */
interface Writer {
  pve: Pve
  target: string
  root: string
  emit: Emit
  signal: AbortSignal
  /** dates of the indexes by which it was decided what to build: `<url> <suite>` → ISO 8601 */
  suites?: Readonly<Record<string, string>>
}

interface Asked extends CurrentTemplate {
  config: GuestConfig
}

interface Image {
  name: string
  kind: GuestKind
}

/**
 * Brings the lockfile and the lists of packages up to date with the templates of one image that are current now. The cluster
 * is asked only where the files say something else, and what is not current any more is not written. An image has one version
 * there: where nodes differ, those that have the first one's. A file that cannot be written is told, and makes nothing fail:
 * what is current is so.
 */
export async function lockCurrent(
  by: Writer,
  { name, kind }: Image,
  current: readonly CurrentTemplate[],
): Promise<void> {
  const { root, target, signal, emit, suites } = by
  const [first] = current
  if (first === undefined) return
  const same = current.filter(({ version }) => version === first.version)
  const templates = Object.fromEntries(same.map(({ node, vmid }) => [node, vmid]))
  const at = { target, image: name }
  try {
    const before = (await readLockfile(root)).targets[target]?.[name]
    const isSaid = before !== undefined && says(before, first, templates)
    if (isSaid && (await areListed(root, { ...at, version: first.version, nodes: Object.keys(templates) })))
      return
    // Asked while nobody else writes: who has rolled back meanwhile has written that already.
    const entry = async (): Promise<Locked | undefined> => {
      const { version, vmid } = first
      const asked = await Promise.all(
        same.map(async (one) => ({ ...one, config: await readConfig(by.pve, { kind, ...one }) })),
      )
      const { tags, description } = (asked[0] as Asked).config
      const marks = fromTags(vmid, tags)
      if (marks?.state !== 'current' || marks.version !== version) return undefined
      // Before the lockfile: whoever comes after a cut sees that it says something else, and does both again.
      await writePackageLists(root, at, await listsOf(by, name, asked))
      const { digest = '', built = '', archive } = parseNote(vmid, description) ?? {}
      return {
        ...{ version, digest, kind, built, templates },
        ...(archive?.volid !== undefined && { archive: archive.volid }),
        ...(marks.shared && { shared: true }),
      }
    }
    await writeLocked(root, { ...at, entry, ...(suites && { suites }) }, signal)
  } catch (error) {
    signal.throwIfAborted()
    const message = `${LOCKFILE} is not up to date: ${asImagebuildError(error).message}`
    emit({ type: 'warning', image: name, message })
  }
}

/** The lists that the templates' notes mean, wherever they are here. Those that are not are told. */
async function listsOf(
  { target, root, emit }: Writer,
  image: string,
  templates: readonly Asked[],
): Promise<NodeList[]> {
  const at = { root, target, reportsDir: reportsFolder(root, target) }
  const lists: NodeList[] = []
  const reasons = new Set<string>()
  for (const { node, vmid, version, config } of templates) {
    const sha256 = parseNote(vmid, config.description)?.artifacts?.[PACKAGES]
    const text = await readPackageText(at, { image, version, node }, sha256)
    lists.push({ node, ...(text !== undefined && { text }) })
    if (text !== undefined) continue
    reasons.add(
      sha256 === undefined
        ? `${version} was built by an imagebuild that wrote no list of them; imagebuild run ${image} --force builds one that has`
        : `the list of ${version} is not here (sha256 ${sha256}); imagebuild run ${image}, where that was built, writes it`,
    )
  }
  const file = relative(root, packageListFile(root, { target, image }))
  for (const why of reasons)
    emit({ type: 'warning', image, message: `${file} lacks the packages of ${image}: ${why}` })
  return lists
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
