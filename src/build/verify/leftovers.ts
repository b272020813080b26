import { readFile } from 'node:fs/promises'
import { normalize } from 'node:path/posix'
import type { ImageSpec } from '../../definition/spec.ts'
import type { GuestConfig } from '../../pve/answers.ts'
import { BUILD_USER } from '../access.ts'
import { decode, type Examiner, readLines } from './examiner.ts'
import type { Result } from './report.ts'

/** What leftovers.sh looks for, by the names that it uses. */
const LEFTOVERS: Record<string, string> = {
  builder: 'no account of the builder',
  'authorized-key': 'no key that the definition does not name may log in',
  'private-key': 'no private key but the clone’s own host keys',
  'host-key': 'no host key of the build',
  seed: 'no seed of the build',
  'cloud-init': 'nothing that cloud-init has made for another machine',
  history: 'no shell history',
  token: 'no credentials',
  network: 'no network configuration for another machine’s card',
  lease: 'no DHCP lease of another machine',
  journal: 'no journal of another machine',
  trace: 'nothing that names a run of a build',
}

/** Seconds; most of it is reading /etc, /root, /home and /var/log. */
const SEARCH_SECONDS = 300

/** A public key of any type in base64: each begins with the length of its type's name. */
const PUBLIC_KEY = /AAAA[0-9A-Za-z+/]{20,}={0,3}/g

export interface Search {
  image: ImageSpec
  /** the definitions of its parents, as far as they are known */
  ancestors?: readonly ImageSpec[]
  /** who looks, with the public key line that the clone was given for that, or an empty one; missing: nobody */
  login?: { user: string; publicKey: string }
  /** of the clone, as Proxmox has it */
  config: GuestConfig
  /** before each path, in tests */
  root?: string
  signal?: AbortSignal
}

/** @returns one result for each kind of leftover; each names the files */
export async function findLeftovers(examiner: Examiner, search: Search): Promise<Result[]> {
  const { image, ancestors = [], login, root = '', signal } = search
  const line = [image, ...ancestors]
  const script = await readFile(new URL('leftovers.sh', import.meta.url), 'utf8')
  const { exitCode, stdout, stderr } = await examiner.run(script, {
    asRoot: true,
    env: {
      ROOT: root,
      KIND: image.kind,
      BUILD_USER,
      LOGIN_USER: login?.user ?? '',
      LOGIN_KEY: login?.publicKey.split(' ')[1] ?? '',
      KNOWN_KEYS: knownKeys(line).join('\n'),
      KNOWN_PATHS: writtenPaths(line).join('\n'),
      // A parent may be older than its definition: whom it lets in is not surely known. Root's keys are nobody's business but the definition's.
      ANY_KEYS: image.source.kind === 'image' ? '1' : '',
    },
    seconds: SEARCH_SECONDS,
    ...(signal && { signal }),
  })
  const found = new Map<string, string[]>()
  const add = (kind: string, finding: string) => found.set(kind, [...(found.get(kind) ?? []), finding])
  for (const { left, path, detail } of readLines<{ left: string; path: string; detail: string }>(stdout))
    add(left, `${decode(path)}: ${decode(detail)}`)
  for (const drive of foreignDrives(search.config)) add('seed', drive)
  return Object.entries(LEFTOVERS).map(([id, title]) => {
    const findings = found.get(id)
    const incomplete =
      exitCode === 0 ? undefined : `the search ended with exit code ${exitCode}: ${stderr.trim()}`
    const text = findings?.join('\n') ?? incomplete
    return {
      group: 'leftovers',
      id,
      title,
      sources: [],
      ...(text === undefined ? { outcome: 'passed' } : { outcome: 'failed', found: text }),
    }
  })
}

/** Where definitions put files by layers of their own. */
export function writtenPaths(line: readonly ImageSpec[]): string[] {
  const layers = line.flatMap((one) => one.layers)
  return layers.flatMap((layer) => (layer.kind === 'file' ? [normalize(layer.path)] : []))
}

/** Keys that the definitions themselves put somewhere: in a file, a script, what a script is given, or a fragment. */
function knownKeys(line: readonly ImageSpec[]): string[] {
  const texts = line.flatMap(({ layers, cloudInit }) => [
    ...cloudInit.map(({ config }) => JSON.stringify(config)),
    ...layers.flatMap((layer) => {
      if (layer.kind === 'file') return [layer.content]
      return layer.kind === 'shell' ? [layer.script, ...Object.values(layer.env)] : []
    }),
  ])
  const decoder = new TextDecoder()
  const plain = texts.map((text) => (typeof text === 'string' ? text : decoder.decode(text)))
  return [...new Set(plain.flatMap((text) => text.match(PUBLIC_KEY) ?? []))]
}

/** CD-ROMs that a clone gets with its template, other than the drive of Proxmox's own cloud-init. */
function foreignDrives(config: GuestConfig): string[] {
  return Object.entries(config).flatMap(([slot, value]) => {
    const drive = String(value)
    const isForeign = /media=cdrom/.test(drive) && !/^none,|cloudinit/.test(drive)
    return isForeign ? [`drive ${slot}: ${drive}`] : []
  })
}
