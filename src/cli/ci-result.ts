import { readFile } from 'node:fs/promises'
import { dirname, resolve } from 'node:path'
import { z } from 'zod'
import { writeDurably } from '../core/durable-file.ts'
import { ImagebuildError } from '../core/errors.ts'
import { makeFolder } from '../core/make-folder.ts'
import { name, nodeName } from '../definition/formats.ts'
import { locked } from './lockfile.ts'

/**
 * What a scheduled run has come to, as a file that one job hands to another (`ci run --result`, `ci report`). The job that reads it
 * need not trust the one that wrote it: names become parts of paths, so they are what names of images, targets and nodes can be.
 */

const seconds = z.number().nonnegative()

const current = z.strictObject({ version: z.string(), vmids: z.record(nodeName, z.int().positive()) })

const place = z.strictObject({
  file: z.string().describe('from the repository’s root'),
  line: z.int().positive(),
  column: z.int().positive(),
})

const failure = z.strictObject({
  what: z.string().describe('what failed and why, one sentence'),
  check: z.string().optional().describe('that failed on clones'),
  exitCode: z.int(),
  where: place.optional(),
})

const image = z.strictObject({
  image: name,
  outcome: z.enum(['built', 'unchanged', 'failed', 'paused', 'held']),
  reasons: z.array(z.string()).describe('why it is stale, or was before it was built'),
  before: current.optional().describe('that was current when the run began'),
  after: current.optional().describe('that is current at its end'),
  lock: locked.optional().describe('entry of imagebuild.lock.json, where it is another one by now'),
  packages: z
    .array(z.strictObject({ node: nodeName, text: z.string() }))
    .default([])
    .describe('lists of packages, that of the first node first, where `lock` is given'),
  changes: z
    .array(
      z.strictObject({
        name: z.string(),
        before: z.string().optional(),
        after: z.string().optional(),
        cves: z.array(z.string()),
      }),
    )
    .default([])
    .describe('packages that are others than before'),
  verified: z.string().optional().describe('what examined the clones has found'),
  seconds,
  verifySeconds: seconds.optional(),
  failure: failure.optional(),
})

const result = z.strictObject({
  schema: z.literal(1),
  namespace: z.string(),
  target: name,
  /** ISO 8601, UTC */
  started: z.iso.datetime(),
  ended: z.iso.datetime(),
  images: z.array(image),
  /** `<url> <suite>` → date of the newest index that was seen */
  suites: z.record(z.string(), z.iso.datetime()),
  problems: z.array(z.string()).describe('what went wrong beside the images'),
})

export type CiResult = z.output<typeof result>
export type ImageOutcome = CiResult['images'][number]

/** @throws what the file system says, where it cannot be written */
export async function writeResult(file: string, of: CiResult): Promise<void> {
  const path = resolve(file)
  await makeFolder(dirname(path))
  await writeDurably(path, `${JSON.stringify(of, undefined, 2)}\n`, 0o644)
}

/** @throws ImagebuildError `definition_invalid` where it is none of ours, or is cut off */
export async function readResult(file: string): Promise<CiResult> {
  try {
    return result.parse(JSON.parse(await readFile(file, 'utf8')))
  } catch (cause) {
    throw new ImagebuildError({
      code: 'definition_invalid',
      what: `the result ${file} cannot be read`,
      why: cause instanceof z.ZodError ? z.prettifyError(cause) : (cause as Error).message,
      next: 'look into the job that wrote it: what it has built is current all the same, and its change is missing here',
      cause,
    })
  }
}

/**
 * Of several jobs one. Where two say different things of one image, neither is taken: nobody can tell which is right.
 * @param results by the files that they come from
 * @throws ImagebuildError `usage` where there is none
 */
export function mergeResults(results: ReadonlyMap<string, CiResult>): CiResult {
  const [first, ...others] = results
  if (first === undefined) {
    throw new ImagebuildError({
      code: 'usage',
      what: 'there is no result to report',
      next: 'give --results a folder with the files that `imagebuild ci run --result` has written',
    })
  }
  const { namespace, target } = first[1]
  const strangers = others.filter(([, one]) => one.namespace !== namespace || one.target !== target)
  const problems = strangers.map(
    ([file, one]) =>
      `${file} is of ${one.namespace} on ${one.target}, and ${first[0]} of ${namespace} on ${target}: it is left out`,
  )
  const left = new Set(strangers.map(([file]) => file))
  const taken = [...results].filter(([file]) => !left.has(file))
  const images = new Map<string, { file: string; of: ImageOutcome }>()
  const conflicting = new Set<string>()
  for (const [file, one] of taken) {
    for (const of of one.images) {
      const before = images.get(of.image)
      if (before === undefined) images.set(of.image, { file, of })
      else if (JSON.stringify(before.of) !== JSON.stringify(of)) {
        conflicting.add(of.image)
        problems.push(`${before.file} and ${file} say different things of ${of.image}: it is left out`)
      }
    }
  }
  return {
    ...{ schema: 1, namespace, target },
    started: extreme(taken, ({ started }) => started, Math.min),
    ended: extreme(taken, ({ ended }) => ended, Math.max),
    images: [...images.values()].map(({ of }) => of).filter((of) => !conflicting.has(of.image)),
    suites: newest(taken.map(([, { suites }]) => suites)),
    problems: [...problems, ...taken.flatMap(([, one]) => one.problems)],
  }
}

function extreme(
  all: readonly (readonly [string, CiResult])[],
  of: (result: CiResult) => string,
  choose: (...times: number[]) => number,
): string {
  return new Date(choose(...all.map(([, one]) => new Date(of(one)).getTime()))).toISOString()
}

function newest(all: readonly Record<string, string>[]): Record<string, string> {
  const dates: Record<string, string> = {}
  for (const [suite, date] of all.flatMap((suites) => Object.entries(suites)))
    if (new Date(date) > new Date(dates[suite] ?? 0)) dates[suite] = date
  return dates
}
