import type { SecretRegistry } from '../src/core/secrets.ts'
import { shellWord } from '../src/core/shell-word.ts'
import { BODY_LIMIT } from './forge.ts'
import { code, codeBlock, cutText, plain } from './markdown.ts'

/** What scheduled rebuilds have come to, for whoever reviews them. */
export interface Rebuilds {
  target: string
  rebuilt: readonly Rebuilt[]
  failed: readonly { image: string; why: string }[]
}

export interface Rebuilt {
  image: string
  /** missing where there was no template before */
  before?: Templates
  after: Templates
  /** sentences */
  reasons: readonly string[]
  packages: readonly PackageChange[]
  /** one line: what examined the clones has found */
  verified: string
  /** missing where an earlier run built it */
  buildSeconds?: number
  verifySeconds?: number
}

export interface Templates {
  version: string
  /** node → VMID */
  vmids: Readonly<Record<string, number>>
}

/** No `before`: it is new. No `after`: it is gone. */
export interface PackageChange {
  name: string
  before?: string | undefined
  after?: string | undefined
  /** what the new version mends */
  cves: readonly string[]
}

/** Head, lines of which the last ones may be left out, and foot. */
interface Section {
  head: readonly string[]
  lines: readonly string[]
  foot: readonly string[]
}

/** One cell of a table; more is no reading matter. In characters. */
const CELL_LIMIT = 1000
const MOST_REASONS = 12

/**
 * Markdown of at most `limit` characters: what does not go in is left out by lines, the packages first, and counted.
 * @param secrets not shown: in Markdown, cut and escaped, they would not be found any more
 */
export function pullRequestBody(told: Rebuilds, secrets: SecretRegistry, limit = BODY_LIMIT): string {
  const rebuilds = secrets.redactDeep(told)
  const first = [
    images(rebuilds),
    ...(rebuilds.failed.length > 0 ? [failures(rebuilds)] : []),
    rollback(rebuilds),
    proofs(rebuilds),
  ]
  const changed = rebuilds.rebuilt.filter(({ packages }) => packages.length > 0).map(packages)
  // Each section's heading has its place before any may fill what is left.
  let room = limit - first.reduce((sum, section) => sum + sizeOf(least(section)), 0)
  const going = changed.filter((section) => {
    const size = sizeOf(least(section))
    const goes = size + sizeOf(leftOut(changed.length)) <= room
    if (goes) room -= size
    return goes
  })
  const absent = changed.length - going.length
  const foot = absent > 0 ? leftOut(absent) : []
  room -= sizeOf(foot)
  const text = [...first, ...going].flatMap((section) => {
    const short = sizeOf(least(section))
    const written = fitted(section, room + short)
    room -= sizeOf(written) - short
    return written
  })
  return `${[...text, ...foot].join('\n')}\n`
}

function images({ target, rebuilt }: Rebuilds): Section {
  return {
    head: [
      `Rebuilt on ${code(target)}. The templates are current already; this writes down which ones they are.`,
      '',
      '| Image | Was | Is | Why |',
      '|---|---|---|---|',
    ],
    lines: rebuilt.map(({ image, before, after, reasons }) =>
      row(code(image), before ? templates(before) : 'nothing', templates(after), listed(reasons)),
    ),
    foot: [],
  }
}

function failures({ failed }: Rebuilds): Section {
  return {
    head: ['', '### Failed', '', 'What was current before still is.', ''],
    lines: failed.map(({ image, why }) => `- ${code(image)}: ${plain(cutText(why, CELL_LIMIT))}`),
    foot: [],
  }
}

function rollback({ target, rebuilt }: Rebuilds): Section {
  const commands = rebuilt
    .filter(({ before }) => before !== undefined)
    .map(({ image }) => `imagebuild rollback ${shellWord(image)} --target ${shellWord(target)}`)
  const [fence = '', ...rest] = codeBlock(commands, 'sh')
  if (commands.length === 0) return { head: [], lines: [], foot: [] }
  return {
    head: ['', '### Roll back', '', 'The version before is kept, and becomes current again by:', '', fence],
    lines: rest.slice(0, -1),
    foot: [rest.at(-1) ?? ''],
  }
}

function proofs({ rebuilt }: Rebuilds): Section {
  return {
    head: ['', '### Verified', '', '| Image | Result | Build | Verification |', '|---|---|---|---|'],
    lines: rebuilt.map(({ image, verified, buildSeconds, verifySeconds }) =>
      row(code(image), plain(verified), duration(buildSeconds), duration(verifySeconds)),
    ),
    foot: [],
  }
}

function packages({ image, packages: changes }: Rebuilt): Section {
  return {
    head: ['', `### Packages of ${code(image)}`, '', '| Package | Was | Is | Mends |', '|---|---|---|---|'],
    lines: changes.map(({ name, before, after, cves }) =>
      row(code(name), before ? code(before) : 'new', after ? code(after) : 'gone', cves.map(code).join(' ')),
    ),
    foot: [],
  }
}

function templates({ version, vmids }: Templates): string {
  const on = Object.entries(vmids).map(([node, vmid]) => `${vmid} on ${code(node)}`)
  return `${code(version)}: ${on.join(', ')}`
}

function listed(reasons: readonly string[]): string {
  const shown = reasons.slice(0, MOST_REASONS).map((reason) => plain(cutText(reason, CELL_LIMIT)))
  const more = reasons.length - shown.length
  return [...shown, ...(more > 0 ? [`and ${more} more`] : [])].join('<br>')
}

function row(...cells: string[]): string {
  return `| ${cells.join(' | ')} |`
}

function duration(seconds: number | undefined): string {
  if (seconds === undefined) return '—'
  const whole = Math.round(seconds)
  return whole < 60 ? `${whole} s` : `${Math.floor(whole / 60)} min ${whole % 60} s`
}

/** A section with as many of its lines as go in. */
function fitted({ head, lines, foot }: Section, room: number): string[] {
  const whole = [...head, ...lines, ...foot]
  if (sizeOf(whole) <= room) return whole
  let kept = 0
  let size = sizeOf([...head, ...foot, leftOut(lines.length)].flat())
  while (kept < lines.length && size + (lines[kept]?.length ?? 0) + 1 <= room) {
    size += (lines[kept]?.length ?? 0) + 1
    kept++
  }
  return [...head, ...lines.slice(0, kept), ...foot, ...leftOut(lines.length - kept)]
}

/** A section without any line. */
function least({ head, lines, foot }: Section): string[] {
  return lines.length === 0 ? [...head, ...foot] : [...head, ...foot, ...leftOut(lines.length)]
}

function leftOut(count: number): string[] {
  return ['', `… and ${count} more, left out here for their length: see the files of this change.`]
}

function sizeOf(lines: readonly string[]): number {
  return lines.reduce((sum, line) => sum + line.length + 1, 0)
}
