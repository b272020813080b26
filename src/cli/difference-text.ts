import type { Change, Differences } from '../build/inventory/differences.ts'
import type { FileChange } from '../plan/file-layers.ts'

/** A record without which only the packages are compared. */
export interface NotHere {
  /** of the template */
  version: string
  sha256: string
}

/** For people, without colours: a paragraph for each kind of thing that differs, + new, - gone, ~ otherwise. */
export function formatDifferences(
  differences: Differences & { files?: readonly FileChange[]; notHere?: readonly NotHere[] },
): string {
  const { packages, files = [], size, unknown, notHere = [] } = differences
  const paragraphs = [
    paragraph('packages', packageCounts(packages), [
      ...packages.added.map(({ name, version }) => ['+', name, version]),
      ...packages.removed.map(({ name, version }) => ['-', name, version]),
      ...packages.upgraded.map(({ name, before, after }) => ['↑', name, `${before} → ${after}`]),
      ...packages.downgraded.map(({ name, before, after }) => ['↓', name, `${before} → ${after}`]),
    ]),
    ...SECTIONS.map(([key, title]) =>
      paragraph(title, changeCounts(differences[key]), differences[key].map(changeRow)),
    ),
    filesParagraph(files),
    ...(size === null ? [] : [`size: ${mebibytes(size.before)} → ${mebibytes(size.after)} MiB\n`]),
    ...(unknown.length === 0 || notHere.length > 0
      ? []
      : [`not compared, since one of the two does not tell: ${unknown.join(', ')}\n`]),
  ].filter((text) => text !== '')
  if (notHere.length > 0) {
    const isKnown = !unknown.includes('packages')
    const rest = notHere.map(({ version, sha256 }) => `  ${version}: record not here, sha256 ${sha256}\n`)
    const what = isKnown ? 'everything else' : 'packages and everything else'
    const same = paragraphs.length === 0 && isKnown ? ['no package differs\n'] : paragraphs
    return [...same, `not compared: ${what}\n${rest.join('')}`].join('\n')
  }
  return paragraphs.length === 0 ? 'nothing differs\n' : paragraphs.join('\n')
}

const SECTIONS = [
  ['system', 'system'],
  ['apt', 'apt sources and keyrings'],
  ['sshd', 'sshd'],
  ['sysctl', 'sysctl'],
  ['ports', 'listening ports'],
  ['privileged', 'setuid, setgid and capabilities'],
  ['units', 'units'],
  ['users', 'users with a login shell'],
] as const

function paragraph(title: string, counts: string, rows: readonly (readonly string[])[]): string {
  if (rows.length === 0) return ''
  const width = Math.max(...rows.map(([, name = '']) => name.length))
  const lines = rows.map(([sign, name = '', value]) => `  ${sign} ${name.padEnd(width)}  ${value}\n`)
  return `${title}: ${counts}\n${lines.join('')}`
}

/** Each file with the lines that differ, where they are known, else with what it was and is. */
function filesParagraph(files: readonly FileChange[]): string {
  if (files.length === 0) return ''
  const rows = files.map(({ path, before, after, lines }) => {
    const [sign, name, value] = changeRow({ name: path, before: shortly(before), after: shortly(after) })
    if (lines === undefined) return `  ${sign} ${name}  ${value}\n`
    return `  ${sign} ${name}\n${lines.trimEnd().replaceAll(/^/gm, '      ')}\n`
  })
  return `files of layers: ${changeCounts(files)}\n${rows.join('')}`
}

/** A digest in eight digits. */
function shortly(told: string | null): string | null {
  return told?.replace(/sha256:([0-9a-f]{8})[0-9a-f]*/, 'sha256:$1…') ?? null
}

function changeRow({ name, before, after }: Change): readonly [string, string, string] {
  if (before === null) return ['+', name, after ?? '']
  if (after === null) return ['-', name, before]
  return ['~', name, `${before} → ${after}`]
}

function packageCounts(packages: Differences['packages']): string {
  return counted(Object.entries(packages).map(([what, list]) => [list.length, what]))
}

function changeCounts(changes: readonly Pick<Change, 'before' | 'after'>[]): string {
  const added = changes.filter(({ before }) => before === null).length
  const removed = changes.filter(({ after }) => after === null).length
  return counted([
    [added, 'added'],
    [removed, 'removed'],
    [changes.length - added - removed, 'changed'],
  ])
}

function counted(counts: readonly (readonly [number, string])[]): string {
  return counts
    .filter(([count]) => count > 0)
    .map(([count, what]) => `${count} ${what}`)
    .join(', ')
}

function mebibytes(bytes: number): string {
  return (bytes / 2 ** 20).toFixed(0)
}
