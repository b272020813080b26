import { join } from 'node:path'
import { packageListFile } from '../build/package-lists.ts'
import { asImagebuildError } from '../core/errors.ts'
import { parsePackageList } from '../updates/package-list.ts'
import type { Annotation, OpenForge } from './ci-forge.ts'
import { packageRows } from './ci-rebuild.ts'
import { changeOf, committedFiles, inRepository, type RecordsAt } from './ci-records.ts'
import type { CiResult, ImageOutcome } from './ci-result.ts'
import { exitCodeOf } from './ci-tell.ts'
import { LOCKFILE, parseLockfile } from './lockfile.ts'

/** What people look at after a run: one pull request, and a status. */

type Rebuilt = import('../../ci/pull-request-body.ts').Rebuilt

export interface Reviewed {
  /** address of the pull request that is open now */
  pullRequest?: string
  /** one line for people, where something was written */
  said?: string
  /** what could not be said there */
  problems: string[]
}

export interface Change {
  at: RecordsAt
  /** the committed files as they were when this run began */
  before: ReadonlyMap<string, string>
  /** images of an open change that is part of this one */
  carried: readonly string[]
}

/** @throws ImagebuildError where the forge refuses, or cannot be reached */
export async function propose(open: OpenForge, result: CiResult, change: Change): Promise<Reviewed> {
  const { at, before, carried } = change
  const built = result.images.filter(({ outcome }) => outcome === 'built')
  const after = await committedFiles(at)
  const names = built.map(({ image }) => image)
  const others = carried.filter((image) => !names.includes(image))
  const rebuilt = [
    ...built.flatMap(rowOf),
    ...others.flatMap((image) => carriedRow(image, { ...change, after })),
  ]
  const failed = result.images.flatMap(({ image, failure }) =>
    failure ? [{ image, why: failure.what }] : [],
  )
  const { pullRequestBody } = await import('../../ci/pull-request-body.ts')
  const { target } = result
  const base = await open.base()
  const proposal = await open.forge.propose({
    branch: open.branch,
    base,
    ...(open.started.commit !== undefined && { from: open.started.commit }),
    title: titleOf(rebuilt, target),
    body: pullRequestBody({ target, rebuilt, failed }, open.secrets),
    files: changeOf(before, after),
    keepText: built.length === 0,
    closingComment: `All of this is on ${base} by now.`,
  })
  const problems: string[] = []
  try {
    await report(open, result, 'commit' in proposal ? proposal.commit : open.started.commit)
  } catch (error) {
    problems.push(problemOf(error))
  }
  if (proposal.done === 'nothing') return { problems }
  const said = `pull request ${proposal.url}: ${proposal.done}`
  return { said, problems, ...(proposal.done !== 'closed' && { pullRequest: proposal.url }) }
}

/** What failed beside the images, and what to do, as one line. */
export function problemOf(error: unknown): string {
  const { message, next } = asImagebuildError(error)
  return next === undefined ? message : `${message} (${next})`
}

/** A status where something was built or failed: of nothing there is nothing to say. */
async function report({ forge, started }: OpenForge, result: CiResult, commit: string | undefined) {
  const built = result.images.filter(({ outcome }) => outcome === 'built')
  const failed = result.images.filter(({ failure }) => failure !== undefined)
  if (commit === undefined || (built.length === 0 && failed.length === 0)) return
  const counts = [
    ...(built.length > 0 ? [`${built.length} rebuilt`] : []),
    ...(failed.length > 0 ? [`${failed.length} failed`] : []),
  ].join(', ')
  const [first] = failed
  const check = first?.failure?.check === undefined ? '' : ` at check ${first.failure.check}`
  await forge.report({
    ...{ commit, name: `imagebuild (${result.target})` },
    state: exitCodeOf(result) === 0 ? 'success' : 'failure',
    title: first === undefined ? counts : `${counts}: ${first.image}${check}`,
    summary: result.images.map(lineOf).join('\n'),
    annotations: failed.flatMap(annotationOf),
    ...(started.log !== undefined && { url: started.log }),
  })
}

function lineOf({ image, outcome, before, after, failure }: ImageOutcome): string {
  const versions = outcome === 'built' ? `: ${before?.version ?? 'nothing'} → ${after?.version}` : ''
  return `- ${image}: ${outcome}${versions}${failure === undefined ? '' : `: ${failure.what}`}`
}

/** On the line of the definition that failed; files are relative to the repository already. */
function annotationOf({ image, failure }: ImageOutcome): Annotation[] {
  if (failure?.where === undefined) return []
  const { file, line } = failure.where
  return [{ file, line, level: 'failure', text: `${image}: ${failure.what}` }]
}

function titleOf(rebuilt: readonly Rebuilt[], target: string): string {
  const [first, ...others] = rebuilt
  if (first === undefined) return `Write down what is current on ${target}`
  return others.length === 0
    ? `Rebuild ${first.image} on ${target}: ${first.after.version}`
    : `Rebuild ${rebuilt.length} images on ${target}`
}

function rowOf({ image, before, after, reasons, changes, verified, ...one }: ImageOutcome): Rebuilt[] {
  if (after === undefined) return []
  const { seconds, verifySeconds } = one
  return [
    {
      ...{
        image,
        after,
        reasons,
        packages: changes,
        verified: verified ?? 'not verified',
        buildSeconds: seconds,
      },
      ...(before && { before }),
      ...(verifySeconds !== undefined && { verifySeconds }),
    },
  ]
}

/** An image of the open change, as far as the files tell. */
function carriedRow(
  image: string,
  { at, before, after }: Change & { after: ReadonlyMap<string, string> },
): Rebuilt[] {
  const lockfile = inRepository(at, join(at.root, LOCKFILE))
  const entry = (text: string | undefined) =>
    text === undefined ? undefined : parseLockfile(text, LOCKFILE).targets[at.target]?.[image]
  const [was, is] = [entry(before.get(lockfile)), entry(after.get(lockfile))]
  if (is === undefined) return []
  const list = inRepository(at, packageListFile(at.root, { target: at.target, image }))
  const [old, now] = [before.get(list), after.get(list)]
  return [
    {
      ...{ image, after: { version: is.version, vmids: is.templates } },
      ...(was && { before: { version: was.version, vmids: was.templates } }),
      reasons: ['built by an earlier run, whose change is part of this one'],
      packages: old && now ? packageRows(parsePackageList(old).packages, parsePackageList(now).packages) : [],
      verified: 'by the run that built it',
    },
  ]
}
