import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { writeDurably } from '../core/durable-file.ts'
import { ImagebuildError } from '../core/errors.ts'
import { lock } from '../core/lock.ts'
import { buildFolder } from './folders.ts'

/**
 * imagebuild.lock.json beside imagebuild.yaml: what is current on each target, for those who have no cluster at hand.
 * Made to be committed: stable order, no time of writing.
 */
export const LOCKFILE = 'imagebuild.lock.json'

export const locked = z.object({
  version: z.string(),
  digest: z.string(),
  kind: z.enum(['vm', 'lxc']),
  /** ISO 8601, UTC */
  built: z.string(),
  /** node → VMID */
  templates: z.record(z.string(), z.int()),
  /** volume id of a container's archive */
  archive: z.string().optional(),
  /** there is one template, and it serves all nodes of the target */
  shared: z.literal(true).optional(),
})

const lockfile = z.object({
  schema: z.literal(1),
  targets: z.record(z.string(), z.record(z.string(), locked)),
  /** by `<url> <suite>`: date of the newest index that was ever seen; an older one is a replay */
  suites: z.record(z.string(), z.iso.datetime()).optional(),
})

export type Locked = z.output<typeof locked>
export type Lockfile = z.output<typeof lockfile>

/** @throws ImagebuildError `definition_invalid` where the file is none of ours */
export async function readLockfile(root: string): Promise<Lockfile> {
  const file = join(root, LOCKFILE)
  const text = await readFile(file, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined
    throw error
  })
  return text === undefined ? { schema: 1, targets: {} } : parseLockfile(text, file)
}

/**
 * @param file what errors call it
 * @throws ImagebuildError `definition_invalid`
 */
export function parseLockfile(text: string, file: string): Lockfile {
  try {
    return lockfile.parse(JSON.parse(text))
  } catch (cause) {
    throw new ImagebuildError({
      code: 'definition_invalid',
      what: `${file} cannot be read`,
      where: { file, line: 1, column: 1 },
      why: cause instanceof z.ZodError ? z.prettifyError(cause) : (cause as Error).message,
      next: 'settle a conflict of a merge, or remove the file: run, promote and rollback write it anew',
      cause,
    })
  }
}

/**
 * Writes down what is current of one image. Others may write other images at the same moment; what is the same is not written.
 * @param entry asked while nobody else writes; nothing is written for undefined
 * @param suites dates of indexes that were seen, which are kept only together with an entry that changes
 */
export async function writeLocked(
  root: string,
  {
    target,
    image,
    entry,
    suites = {},
  }: {
    target: string
    image: string
    entry: () => Promise<Locked | undefined>
    suites?: Readonly<Record<string, string>>
  },
  signal?: AbortSignal,
): Promise<void> {
  await using _held = await lock(join(buildFolder(root), 'lockfile.lock'), signal)
  const now = await entry()
  if (now === undefined) return
  const before = await readLockfile(root)
  const { [target]: images = {}, ...others } = before.targets
  const after: Lockfile = { ...before, targets: { ...others, [target]: { ...images, [image]: now } } }
  if (formatLockfile(after) === formatLockfile(before)) return
  const text = formatLockfile({ ...after, suites: newest(before.suites ?? {}, suites) })
  await writeDurably(join(root, LOCKFILE), text, 0o644)
}

/** Dates of indexes that were seen after the entries were written, by those that look at what was built. */
export async function writeSuites(
  root: string,
  suites: Readonly<Record<string, string>>,
  signal?: AbortSignal,
): Promise<void> {
  await using _held = await lock(join(buildFolder(root), 'lockfile.lock'), signal)
  const before = await readLockfile(root)
  const text = formatLockfile({ ...before, suites: newest(before.suites ?? {}, suites) })
  if (text !== formatLockfile(before)) await writeDurably(join(root, LOCKFILE), text, 0o644)
}

/** Of two runs at once the one that has seen less may be the last. */
export function newest(
  before: Readonly<Record<string, string>>,
  seen: Readonly<Record<string, string>>,
): Record<string, string> {
  const later = Object.entries(seen).filter(([suite, date]) => {
    const last = before[suite]
    return last === undefined || new Date(date) > new Date(last)
  })
  return { ...before, ...Object.fromEntries(later) }
}

/** Keys in order, two spaces, a newline at the end. */
export function formatLockfile({ schema, targets, suites = {} }: Lockfile): string {
  const inOrder = sorted(targets, (images) =>
    sorted(images, ({ version, digest, kind, built, templates, archive, shared }) => ({
      version,
      digest,
      kind,
      built,
      templates: sorted(templates, (vmid) => vmid),
      ...(archive !== undefined && { archive }),
      ...(shared && { shared }),
    })),
  )
  const seen = Object.keys(suites).length === 0 ? {} : { suites: sorted(suites, (date) => date) }
  return `${JSON.stringify({ schema, targets: inOrder, ...seen }, undefined, 2)}\n`
}

function sorted<From, To>(map: Record<string, From>, each: (value: From) => To): Record<string, To> {
  const keys = Object.keys(map).sort()
  return Object.fromEntries(keys.map((key) => [key, each(map[key] as From)]))
}
