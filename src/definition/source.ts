import { stat } from 'node:fs/promises'
import { resolve } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { closest, suggest } from '../core/did-you-mean.ts'
import type { Diagnostic } from './diagnostics.ts'
import type { ImageKind } from './image-schema.ts'
import type { LxcSource, VmSource } from './source-schema.ts'
import type { SourceSpec } from './spec.ts'
import type { Path, YamlFile } from './yaml-file.ts'

/**
 * What a person should know of a release (`debian/12`), a suite (`bookworm`) or an appliance (`debian-12-standard`) that
 * gets no security updates, or soon none; undefined where all is well.
 */
export type EndOfLife = (name: string) => { message: string; hint: string } | undefined

interface Context {
  kind: ImageKind
  yaml: YamlFile
  folder: string
  /** ids of the catalog, for this kind */
  releases: readonly string[]
  endOfLife: EndOfLife
  report: (found: Diagnostic) => void
}

/** What an image starts from, with everything checked that can be checked without a network. */
export async function loadSource(
  source: VmSource | LxcSource,
  context: Context,
): Promise<SourceSpec | undefined> {
  const { yaml, report, releases } = context
  const { line, column } = yaml.keyAt(['source'])
  const common = { architecture: source.architecture, where: { file: yaml.file, line, column } }
  if (source.bootstrap) {
    const { distribution, suite, mirror, packages } = source.bootstrap
    warnOfEnd(suite, ['source', 'bootstrap', 'suite'], context)
    return {
      ...common,
      kind: 'bootstrap',
      distribution,
      suite,
      packages,
      ...(mirror !== undefined && { mirror }),
    }
  }
  if ('appliance' in source && source.appliance !== undefined) {
    warnOfEnd(source.appliance, ['source', 'appliance'], context)
    return { ...common, kind: 'appliance', appliance: source.appliance }
  }
  if (source.image !== undefined) return { ...common, kind: 'image', image: source.image }
  if (source.release !== undefined) {
    if (!releases.includes(source.release)) {
      const guess = closest(source.release, releases)
      const all = `the catalog has: ${releases.join(', ')}`
      const hint = guess === undefined ? all : `did you mean \`${guess}\`? (${all})`
      report(yaml.diagnostic(yaml.at(['source', 'release']), `unknown release \`${source.release}\``, hint))
      return undefined
    }
    warnOfEnd(source.release, ['source', 'release'], context)
    return { ...common, kind: 'release', release: source.release, fallback: source.fallback === 'bootstrap' }
  }
  const url = await loadUrl(source.url ?? '', context)
  const format = source.format ?? (url && guessFormat(url, context))
  const [algorithm, value] = (source.checksum ?? '').split(':') as ['sha256' | 'sha512', string]
  return url && format ? { ...common, kind: 'url', url, checksum: { algorithm, value }, format } : undefined
}

function warnOfEnd(name: string, path: Path, { yaml, report, endOfLife }: Context): void {
  const found = endOfLife(name)
  if (found) report(yaml.diagnostic(yaml.at(path), found.message, found.hint, 'warning'))
}

/** An absolute URL; `file:disk.qcow2` is relative to the definition. */
async function loadUrl(written: string, { yaml, folder, report }: Context): Promise<string | undefined> {
  const refuse = (message: string, hint?: string) => {
    report(yaml.diagnostic(yaml.at(['source', 'url']), message, hint))
    return undefined
  }
  if (written.startsWith('file:')) {
    const path = filePath(written, folder)
    if (path === undefined)
      return refuse('`url` must be file: with a path: file:disk.qcow2, file:///srv/disk.qcow2')
    const found = await stat(path).catch(() => undefined)
    if (!found) return refuse(`there is no file ${path}`)
    return found.isFile() ? pathToFileURL(path).href : refuse(`${path} is not a plain file`)
  }
  if (!URL.canParse(written)) return refuse('`url` must be a URL: https://…, http://… or file:…')
  const url = new URL(written)
  if (url.protocol !== 'https:' && url.protocol !== 'http:') {
    const scheme = url.protocol.slice(0, -1)
    return refuse(
      `\`url\` must be https, http or file, not ${scheme}`,
      suggest(scheme, ['https', 'http', 'file']),
    )
  }
  if (url.username !== '' || url.password !== '') {
    return refuse('`url` must not carry a user or a password', 'a definition is read by many')
  }
  return url.href
}

/** The path behind a `file:` URL; undefined for one on another host or without a path. */
function filePath(written: string, folder: string): string | undefined {
  const rest = written.slice('file:'.length)
  if (rest === '') return undefined
  if (!rest.startsWith('//')) return resolve(folder, rest)
  try {
    return fileURLToPath(written)
  } catch {
    return undefined
  }
}

/** Ends of names that say what is inside. Ubuntu's `.img` is qcow2 and others' is raw: that one says nothing. */
const FORMATS: Readonly<Record<ImageKind, RegExp>> = {
  vm: /\.(qcow2|raw)(\.(xz|zst))?$/,
  lxc: /\.(tar(\.(zst|xz|gz))?|tgz|txz)$/,
}
const SHORT: Readonly<Record<string, string>> = { tgz: 'tar.gz', txz: 'tar.xz' }

function guessFormat(url: string, { kind, yaml, report }: Context): string | undefined {
  const file = new URL(url).pathname.split('/').at(-1) ?? ''
  const found = FORMATS[kind].exec(file)?.[0].slice(1)
  if (found !== undefined) return SHORT[found] ?? found
  const { message, hint } = whatElse(file, kind)
  report(yaml.diagnostic(yaml.at(['source', 'url']), message, hint))
  return undefined
}

function whatElse(file: string, kind: ImageKind): { message: string; hint: string } {
  if (/\.iso$/i.test(file)) {
    return {
      message: `\`${file}\` is an ISO image, not ${kind === 'vm' ? 'a disk' : 'a root file system'}`,
      hint:
        kind === 'vm'
          ? 'look for a cloud image of this system'
          : 'look for an archive of its root file system',
    }
  }
  const other = kind === 'vm' ? 'lxc' : 'vm'
  if (FORMATS[other].test(file)) {
    const [is, needed] = kind === 'vm' ? ['an archive', 'a disk'] : ['a disk', 'an archive']
    return {
      message: `\`${file}\` is ${is}, and \`kind: ${kind}\` starts from ${needed}`,
      hint: `for ${other === 'lxc' ? 'a container' : 'a virtual machine'}, write \`kind: ${other}\``,
    }
  }
  return {
    message: `the name \`${file}\` does not tell the format`,
    hint:
      kind === 'vm'
        ? 'write `format: qcow2` or `format: raw` beside it (with .xz or .zst)'
        : 'write `format: tar.zst`, `tar.xz`, `tar.gz` or `tar` beside it',
  }
}
