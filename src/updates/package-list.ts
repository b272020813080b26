import { ImagebuildError } from '../core/errors.ts'
import { type AptSource, namedSources, sourceOf } from './apt-source.ts'
import type { InstalledPackage } from './pending.ts'

/**
 * The packages of an image as a text that is made to be committed: one line for each, sorted, so that a change of it reads as
 * the packages that changed. Nothing in it is of one build alone: the same packages give the same text.
 *
 *     # schema: 1
 *     # image: web
 *     # distribution: debian 13 trixie
 *     # architecture: amd64
 *     # apt: deb http://deb.debian.org/debian trixie main; signed by /usr/share/keyrings/debian-archive-keyring.gpg
 *
 *     libssl3t64 3.5.1-1+b1 amd64 openssl=3.5.1-1
 *     tzdata 2026b-0+deb13u1 all tzdata
 */
export interface PackageList {
  image: string
  /** os-release(5): ID, VERSION_ID, VERSION_CODENAME */
  distribution: { id: string; version: string; codename: string }
  /** of the machine */
  architecture: string
  /** as they come out of the text, one for each suite */
  sources: AptSource[]
  /** none where the image has no dpkg */
  packages: InstalledPackage[]
}

const SCHEMA = '1'

export function formatPackageList({
  image,
  distribution,
  architecture,
  sources,
  packages,
}: PackageList): string {
  const { id, version, codename } = distribution
  const apt = sources.flatMap(namedSources).map(({ name, components, trust }) => {
    const what = [name, ...components].map(printed).join(' ')
    return trust === '' ? what : `${what}; ${printed(trust)}`
  })
  const header = [
    `schema: ${SCHEMA}`,
    `image: ${image}`,
    `distribution: ${[id, version, codename].map(word).join(' ')}`,
    `architecture: ${word(architecture)}`,
    ...inOrder(apt).map((source) => `apt: ${source}`),
  ]
  const rows = packages.map(({ sourceVersion, ...one }) => {
    const source =
      sourceVersion === one.version ? word(one.source) : `${word(one.source)}=${word(sourceVersion)}`
    return [...[one.name, one.version, one.architecture].map(word), source].join(' ')
  })
  return [...header.map((line) => `# ${line}`), '', ...inOrder(rows)].map((line) => `${line}\n`).join('')
}

/**
 * @param file what errors call it
 * @throws ImagebuildError `definition_invalid` with the line that is wrong
 */
export function parsePackageList(text: string, file = 'packages.txt'): PackageList {
  const lines = text.split('\n')
  const fail = (index: number, why: string) =>
    new ImagebuildError({
      code: 'definition_invalid',
      what: `${file} is no list of packages`,
      where: { file, line: index + 1, column: 1 },
      why,
      next: 'it is never edited by hand: take it as it was written, from the repository or from where the image was built',
    })
  const end = lines.indexOf('')
  const header = lines.slice(0, end).map((line, index) => {
    const [, key, value] = /^# ([a-z]+): (.+)$/.exec(line) ?? []
    if (key === undefined || value === undefined)
      throw fail(index, 'a line of its head is not `# key: value`')
    return { key, value, index }
  })
  const one = (key: string, form: RegExp) => {
    const [found, again] = header.filter((line) => line.key === key)
    if (found === undefined) throw fail(0, `its head has no ${key}`)
    if (again !== undefined) throw fail(again.index, `its head has ${key} twice`)
    const match = form.exec(found.value)
    if (match === null) throw fail(found.index, `\`${found.value}\` is none for ${key}`)
    return match.slice(1).map(unword) as [string, string, string]
  }
  const [schema] = one('schema', /^(\d+)$/)
  if (schema !== SCHEMA) throw fail(0, `it is of schema ${schema}, which only a newer imagebuild can read`)
  const [image] = one('image', /^([a-z0-9-]+)$/)
  const [id, version, codename] = one('distribution', /^(\S+) (\S+) (\S+)$/)
  const [architecture] = one('architecture', /^(\S+)$/)
  const sources = header
    .filter(({ key }) => key === 'apt')
    .map(({ value, index }) => sourceIn(value) ?? raise(fail(index, `\`${value}\` is no source of apt`)))
  if (lines.at(-1) !== '') throw fail(lines.length - 1, 'it is cut off')
  const packages = lines
    .slice(end + 1, -1)
    .map((line, index) => packageIn(line) ?? raise(fail(end + 1 + index, `\`${line}\` is no package`)))
  return { image, distribution: { id, version, codename }, architecture, sources, packages }
}

function sourceIn(text: string): AptSource | undefined {
  const [what = '', ...trust] = text.split('; ')
  const [type, uri, suite, ...components] = what.split(' ')
  return sourceOf({ name: [type, uri, suite].join(' '), components, trust: trust.join('; ') })
}

function packageIn(line: string): InstalledPackage | undefined {
  const match = /^(\S+) (\S+) (\S+) ([^\s=]+)(?:=(\S+))?$/.exec(line)
  if (match === null) return undefined
  const [name, version, architecture, source, sourceVersion] = match
    .slice(1)
    .map((text) => text && unword(text))
  return { name, version, architecture, source, sourceVersion: sourceVersion ?? version } as InstalledPackage
}

function raise(error: Error): never {
  throw error
}

/** A guest tells what it likes; what a person reads in a change must be what it looks like. */
const printed = (text: string) => text.replace(/[^ -~]/g, '?')
const word = (text: string) => (text === '' ? '-' : text.replace(/[^!-~]/g, '?'))
const unword = (text: string) => (text === '-' ? '' : text)

/** By code points, the same on every machine. */
const inOrder = (lines: readonly string[]) => [...new Set(lines)].sort((a, b) => (a < b ? -1 : a > b ? 1 : 0))
