import { printable } from '../core/printable.ts'
import type { Occasion } from '../definition/ci-schema.ts'
import { type ImageReport, isSuccess, occasionsOf, type RunReport, waits } from './report.ts'

/** What people read: a title with counts, and one line for each image that has something to say. */
export interface Message {
  title: string
  lines: readonly string[]
  /** what weighs most in it; missing where nothing happened */
  about?: Occasion
  /** address of the pull request */
  link?: string
}

/** More are counted only: a kernel update alone can be forty packages. */
const MAX_REASONS = 5
/** Characters. A failed command may have quoted a whole file. */
const MAX_TEXT = 500

/** @param report without secrets: texts are joined and cut here, so that a secret could not be found afterwards */
export function composeMessage(report: RunReport): Message {
  const { images, problems } = report
  const [about] = occasionsOf(report)
  const unchanged = images.filter((image) => rank(image) === ORDER.length).length
  const link = report.pullRequest === undefined ? undefined : oneLine(report.pullRequest)
  const told = images.filter((image) => rank(image) < ORDER.length).toSorted((a, b) => rank(a) - rank(b))
  return {
    title: oneLine(`imagebuild ${report.namespace} (${report.target}): ${counts(report)}`),
    lines: [
      ...problems.map((problem) => oneLine(problem)),
      ...told.map(lineOf),
      ...(unchanged > 0 ? [`${counted(unchanged, 'image')} unchanged`] : []),
      ...(link === undefined ? [] : [`pull request: ${link}`]),
    ],
    ...(about !== undefined && { about }),
    ...(link !== undefined && { link }),
  }
}

/** The whole message as one text. */
export function textOf({ lines }: Message): string {
  return lines.join('\n')
}

const ORDER: readonly ImageReport['outcome'][] = ['failed', 'built', 'paused', 'held']

/** Where its line stands; what is held and not stale has nothing to say. */
function rank(image: ImageReport): number {
  const place = ORDER.indexOf(image.outcome)
  return place < 0 || (image.outcome === 'held' && !waits(image)) ? ORDER.length : place
}

function counts(report: RunReport): string {
  const words = { failed: 'failed', built: 'rebuilt', paused: 'paused', held: 'held' } as const
  const parts = (Object.keys(words) as (keyof typeof words)[]).flatMap((outcome) => {
    const count = report.images.filter(
      (image) => image.outcome === outcome && rank(image) < ORDER.length,
    ).length
    return count === 0 ? [] : [`${count} ${words[outcome]}`]
  })
  const failed = report.images.some(({ outcome }) => outcome === 'failed')
  if (!failed && !isSuccess(report)) parts.unshift(`the run failed${status(report)}`)
  return parts.length === 0 ? 'nothing to rebuild' : parts.join(', ')
}

function status({ exitStatus }: RunReport): string {
  return exitStatus === undefined ? '' : ` (exit status ${exitStatus})`
}

function lineOf(image: ImageReport): string {
  const { oldVersion: before, newVersion: now, failure } = image
  const reasons = reasonsOf(image)
  const stays = now === undefined ? 'there is no template' : `${now} stays current`
  switch (image.outcome) {
    case 'built': {
      const versions = before === undefined ? `first version ${now}` : `${before} → ${now}`
      return [
        `${image.image}: rebuilt, ${versions}`,
        ...placesOf(image),
        inWords(image.seconds),
        ...reasons,
      ].join('; ')
    }
    case 'failed': {
      const check = failure?.check === undefined ? '' : ` at check ${clean(failure.check)}`
      return [
        `${image.image}: failed${check}: ${clean(failure?.what ?? 'no reason given')}`,
        stays,
        ...reasons,
      ].join('; ')
    }
    case 'paused': {
      const resume = `after repeated failures nothing is tried until the reasons change, or: imagebuild ci resume ${image.image}`
      return [`${image.image}: paused, ${resume}`, stays, ...reasons].join('; ')
    }
    default: {
      const release = `nothing is rebuilt before: imagebuild promote ${image.image}@<version>`
      return [`${image.image}: held after a rollback, ${release}`, stays, ...reasons].join('; ')
    }
  }
}

function placesOf({ vmids }: ImageReport): string[] {
  const [first, ...others] = vmids
  if (first === undefined) return []
  const more = others.map(({ node, vmid }) => `, ${vmid} on ${node}`).join('')
  return [`VMID ${first.vmid} on ${first.node}${more}`]
}

function reasonsOf({ reasons }: ImageReport): string[] {
  if (reasons.length === 0) return []
  const more = reasons.length - MAX_REASONS
  const shown = reasons.slice(0, MAX_REASONS).map(clean).join(', ')
  return [`stale because of ${shown}${more > 0 ? `, and ${counted(more, 'more reason')}` : ''}`]
}

function inWords(seconds: number): string {
  const whole = Math.round(seconds)
  return whole < 60 ? `${whole} s` : `${Math.floor(whole / 60)} min ${whole % 60} s`
}

function counted(count: number, what: string): string {
  return `${count} ${what}${count === 1 ? '' : 's'}`
}

function clean(text: string): string {
  const line = oneLine(text)
  return line.length <= MAX_TEXT ? line : `${line.slice(0, MAX_TEXT).toWellFormed()}…`
}

/** Without line breaks, a terminal's colours and other control sequences, and signs that turn the direction of writing. */
export function oneLine(text: string): string {
  return printable(text)
    .toWellFormed()
    .replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\s]+/gu, ' ')
    .trim()
}
