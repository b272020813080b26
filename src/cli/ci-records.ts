import { existsSync } from 'node:fs'
import { readdir, readFile } from 'node:fs/promises'
import { dirname, join, relative, resolve, sep } from 'node:path'
import { packageListFile } from '../build/package-lists.ts'
import { ifThere } from '../core/if-there.ts'
import { name as imageName, nodeName } from '../definition/formats.ts'
import { compareVersions } from '../pve/marks.ts'
import { parsePackageList } from '../updates/package-list.ts'
import { LOCKFILE, type Locked, parseLockfile, readLockfile, writeLocked } from './lockfile.ts'
import { type NodeList, writePackageLists } from './package-files.ts'

/** The lockfile and the lists of packages as a repository has them: what a change is made of, and what an open one brings. */

/** Where a project lies in its repository. */
export interface RecordsAt {
  root: string
  /** folder of the repository that the project is in */
  repository: string
  target: string
}

/** The next folder upward that git knows; the project's own where there is none. */
export function repositoryOf(root: string): string {
  for (let folder = resolve(root); ; folder = dirname(folder)) {
    if (existsSync(join(folder, '.git'))) return folder
    if (dirname(folder) === folder) return root
  }
}

/** From the repository's root, as forges name files. */
export function inRepository({ repository }: RecordsAt, file: string): string {
  return relative(repository, file).split(sep).join('/')
}

/** The lockfile and this target's lists, by their places in the repository. */
export async function committedFiles(at: RecordsAt): Promise<Map<string, string>> {
  const { root, target } = at
  const folder = dirname(packageListFile(root, { target, image: 'any' }))
  const lists = ((await ifThere(readdir(folder))) ?? []).filter((file) => file.endsWith('.txt')).sort()
  const files = new Map<string, string>()
  for (const file of [join(root, LOCKFILE), ...lists.map((list) => join(folder, list))]) {
    const text = await ifThere(readFile(file, 'utf8'))
    if (text !== undefined) files.set(inRepository(at, file), text)
  }
  return files
}

/** Texts of what is there now, undefined for what was there before and has gone. */
export function changeOf(
  before: ReadonlyMap<string, string>,
  after: ReadonlyMap<string, string>,
): Map<string, string | undefined> {
  const gone = [...before.keys()].filter((path) => !after.has(path))
  return new Map<string, string | undefined>([...after, ...gone.map((path) => [path, undefined] as const)])
}

/** One image's entry and lists, together. */
export async function writeRecords(
  { root, target }: RecordsAt,
  image: string,
  {
    lock,
    lists,
    suites,
  }: { lock: Locked; lists: readonly NodeList[]; suites: Readonly<Record<string, string>> },
  signal?: AbortSignal,
): Promise<void> {
  const entry = async () => {
    await writePackageLists(root, { target, image }, lists)
    return lock
  }
  await writeLocked(root, { target, image, entry, suites }, signal)
}

/** The lists of an image as they are here, that of the first node first. */
export async function listsOf(
  { root, target }: Pick<RecordsAt, 'root' | 'target'>,
  image: string,
  nodes: readonly string[],
): Promise<{ node: string; text: string }[]> {
  const read = (node?: string) =>
    ifThere(readFile(packageListFile(root, { target, image, ...(node !== undefined && { node }) }), 'utf8'))
  const common = await read()
  const lists = nodes.map(async (node) => ({ node, text: (await read(node)) ?? common }))
  return (await Promise.all(lists)).flatMap(({ node, text }) => (text === undefined ? [] : [{ node, text }]))
}

/**
 * Takes over what an open change has and this checkout lacks, so that the next one has it too. Whether a list is that of the
 * current template is asked where it is read: by the SHA-256 in the template's note.
 * @param read a file of the change's branch, by its place in the repository
 * @returns the images
 */
export async function carryOver(
  at: RecordsAt,
  read: (path: string) => Promise<string | undefined>,
  signal?: AbortSignal,
): Promise<string[]> {
  const { root, target } = at
  const text = await read(inRepository(at, join(root, LOCKFILE)))
  if (text === undefined) return []
  const theirs = parseLockfile(text, `${LOCKFILE} of the open change`)
  const ours = (await readLockfile(root)).targets[target] ?? {}
  const carried: string[] = []
  for (const [image, lock] of Object.entries(theirs.targets[target] ?? {})) {
    if (!imageName.safeParse(image).success || compareVersions(lock.version, ours[image]?.version) <= 0)
      continue
    const lists: NodeList[] = []
    const common = await read(inRepository(at, packageListFile(root, { target, image })))
    for (const [index, node] of Object.keys(lock.templates).entries()) {
      if (!nodeName.safeParse(node).success) continue
      const own =
        index === 0 ? undefined : await read(inRepository(at, packageListFile(root, { target, image, node })))
      const list = own ?? common
      lists.push({ node, ...(list !== undefined && isListOf(image, list) && { text: list }) })
    }
    await writeRecords(at, image, { lock, lists, suites: theirs.suites ?? {} }, signal)
    carried.push(image)
  }
  return carried
}

/** Whether it is a list of this image at all. */
export function isListOf(image: string, text: string): boolean {
  try {
    return parsePackageList(text).image === image
  } catch {
    return false
  }
}
