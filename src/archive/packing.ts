/** How an archive is packed; `none` is bare tar. */
export type Packing = 'zst' | 'xz' | 'gz' | 'none'

const MAGIC: readonly (readonly [Packing, readonly number[]])[] = [
  ['zst', [0x28, 0xb5, 0x2f, 0xfd]],
  ['xz', [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00]],
  ['gz', [0x1f, 0x8b]],
]

/** Bytes that tell packings apart. */
export const MAGIC_BYTES = 6

/** By the first bytes, whatever the file is called. */
export function packingOf(start: Uint8Array): Packing {
  return MAGIC.find(([, magic]) => magic.every((byte, index) => start[index] === byte))?.[0] ?? 'none'
}

/** Commands that unpack stdin to stdout. */
export const UNPACK: Record<Exclude<Packing, 'none'>, readonly [command: string, ...args: string[]]> = {
  // Archives are packed with a long window sometimes; 27 is 128 MiB, as much as zstd itself takes unasked.
  zst: ['zstd', '--decompress', '--stdout', '--quiet', '--memory=128MB'],
  xz: ['xz', '--decompress', '--stdout', '--quiet', '--threads=0'],
  gz: ['gzip', '--decompress', '--stdout', '--quiet'],
}

/**
 * The command that packs stdin to stdout. The level and the number of threads are fixed: with at least one worker
 * thread, zstd gives the same bytes however many there are, and without any it gives others.
 */
export const PACK: readonly [command: string, ...args: string[]] = [
  'zstd',
  '--compress',
  '--stdout',
  '--quiet',
  '--no-progress',
  '-3',
  '--threads=2',
  '--check',
]

/** What this room needs of the system, and the Debian packages that bring it. */
export const ARCHIVE_REQUIREMENTS = [
  { command: 'zstd', package: 'zstd' },
  { command: 'xz', package: 'xz-utils' },
  { command: 'gzip', package: 'gzip' },
] as const
