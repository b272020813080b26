import type { Entry } from './entry.ts'
import { fromText, normalisePath } from './names.ts'
import type { Packing } from './packing.ts'
import type { Tree } from './tree.ts'

/** Files that say which system it is; the first is a symlink to the second on most. */
const OS_RELEASE = ['etc/os-release', 'usr/lib/os-release']

/** Bytes; that of a distribution has some hundred. */
const LARGEST_OS_RELEASE = 2 ** 16

/** What an archive holds, as far as later steps ask. */
export interface ArchiveContents {
  /** entries that were kept, additions included */
  entries: number
  /** bytes of the unpacked archive as it came */
  uncompressed: number
  /** how it was packed, told by its first bytes */
  packing: Packing
  /** device nodes below /dev that were left out */
  devices: number
  /** how its names began: `./`, nothing, or both */
  prefix: './' | '' | 'mixed'
  /** whether a path leads to something in the tree, symlinks followed as in a container */
  has(path: string): boolean
  /** `/usr/sbin/sshd` is there */
  sshd: boolean
  /** `/usr/bin/cloud-init` is there */
  cloudInit: boolean
  /** `/sbin/init` is there */
  init: boolean
  /** of os-release, where it is there: keys as they stand in it (`ID`, `VERSION_ID`), values without quotes */
  osRelease: Record<string, string> | undefined
}

/** Notes what an archive holds while it goes by. */
export class ContentsNote {
  #entries = 0
  #devices = 0
  #dotted = 0
  #bare = 0
  readonly #texts = new Map<string, string>()

  get empty(): boolean {
    return this.#entries === 0
  }

  entry({ name }: Entry): void {
    this.#entries++
    if (name === '.' || name.startsWith('./')) this.#dotted++
    else this.#bare++
  }

  added(path: string, content: Uint8Array): void {
    this.#entries++
    if (OS_RELEASE.includes(path)) this.text(path, content)
  }

  device(): void {
    this.#devices++
  }

  /** Whether the contents of an entry are wanted. */
  wants({ kind, path, size }: Entry): boolean {
    return kind === 'file' && OS_RELEASE.includes(path) && size <= LARGEST_OS_RELEASE
  }

  text(path: string, content: Uint8Array): void {
    this.#texts.set(path, Buffer.from(content).toString('utf8'))
  }

  contents(tree: Tree, uncompressed: number, packing: Packing): ArchiveContents {
    const has = (path: string) => {
      const place = normalisePath(fromText(path.replace(/^\/+/, '')))
      if ('refused' in place) return false
      const { kind } = tree.find(place.path)
      return kind !== undefined && kind !== 'gone'
    }
    const text = OS_RELEASE.map((path) => this.#texts.get(tree.find(path).path)).find(
      (found) => found !== undefined,
    )
    return {
      entries: this.#entries,
      uncompressed,
      packing,
      devices: this.#devices,
      prefix: this.#bare === 0 ? './' : this.#dotted === 0 ? '' : 'mixed',
      has,
      sshd: has('usr/sbin/sshd'),
      cloudInit: has('usr/bin/cloud-init'),
      init: has('sbin/init'),
      osRelease: text === undefined ? undefined : parseOsRelease(text),
    }
  }
}

/** Lines of `KEY=value`, where values may be quoted as in a shell. */
function parseOsRelease(text: string): Record<string, string> {
  const lines = text.matchAll(/^([A-Z][A-Z0-9_]*)=(?:"((?:[^"\\]|\\.)*)"|'([^']*)'|(.*?))[ \t]*$/gm)
  return Object.fromEntries(
    [...lines].map(([, key, double, single, bare]) => [
      key as string,
      double?.replace(/\\(.)/g, '$1') ?? single ?? bare ?? '',
    ]),
  )
}
