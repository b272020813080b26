import { existsSync } from 'node:fs'
import { readdir, readFile, rm } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { packageListFile } from '../build/package-lists.ts'
import { PACKAGES, recordsFolder } from '../build/records.ts'
import { writeDurably } from '../core/durable-file.ts'
import { ifThere } from '../core/if-there.ts'
import { makeFolder } from '../core/make-folder.ts'
import { IMAGE_FILE } from '../definition/image.ts'
import { reportsFolder } from './folders.ts'
import { readLockfile } from './lockfile.ts'

/** The list of packages of a current template; without a text where it is not here. */
export interface NodeList {
  node: string
  text?: string
}

/**
 * Brings the committed lists of one image to what is current: the first node's, and those that differ from it. What is of
 * another version goes, also where nothing takes its place: a list that is not current must not look so. To be called while
 * nobody else writes (`writeLocked`).
 */
export async function writePackageLists(
  root: string,
  { target, image }: { target: string; image: string },
  [first, ...others]: readonly NodeList[],
): Promise<void> {
  const wanted = new Map<string, string>()
  if (first?.text !== undefined) wanted.set(packageListFile(root, { target, image }), first.text)
  for (const { node, text } of others)
    if (text !== undefined && text !== first?.text)
      wanted.set(packageListFile(root, { target, image, node }), text)

  const folder = dirname(packageListFile(root, { target, image }))
  for (const [file, text] of wanted) {
    if ((await textOf(file)) === text) continue
    await makeFolder(folder)
    await writeDurably(file, text, 0o644)
  }
  const locked = (await readLockfile(root)).targets[target] ?? {}
  const isForgotten = (name: string) =>
    locked[name] === undefined && !existsSync(join(root, 'images', name, IMAGE_FILE))
  for (const name of (await ifThere(readdir(folder))) ?? []) {
    const of = imageOf(name)
    const isOld = of === image ? !wanted.has(join(folder, name)) : of !== undefined && isForgotten(of)
    if (isOld) await rm(join(folder, name), { force: true })
  }
}

/** Whose list it is, or was about to become when a run was cut off; undefined for a file that is none of ours. */
function imageOf(name: string): string | undefined {
  return /^([a-z0-9-]+)(@[A-Za-z0-9-]+)?\.txt(\.\d+-[0-9a-f-]+\.new)?$/.exec(name)?.[1]
}

/**
 * Whether the lists that were written where a version was built are among the committed ones. Of a version that was built
 * elsewhere nothing is known without asking the cluster.
 */
export async function areListed(
  root: string,
  {
    target,
    image,
    version,
    nodes,
  }: { target: string; image: string; version: string; nodes: readonly string[] },
): Promise<boolean> {
  const records = ['', ...nodes].map((node) =>
    join(recordsFolder(reportsFolder(root, target), image, version, node), PACKAGES),
  )
  const files = [undefined, ...nodes].map((node) =>
    packageListFile(root, { target, image, ...(node !== undefined && { node }) }),
  )
  const committed = await Promise.all(files.map(textOf))
  const built = await Promise.all(records.map(textOf))
  return built.every((text) => text === undefined || committed.includes(text))
}

async function textOf(file: string): Promise<string | undefined> {
  return readFile(file, 'utf8').catch(() => undefined)
}
