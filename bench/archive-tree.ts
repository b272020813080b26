import { open } from 'node:fs/promises'
import { startPacker } from '../src/archive/packer-process.ts'
import { PACK } from '../src/archive/packing.ts'
import { TarWriter } from '../src/archive/tar-writer.ts'
import { encodeHeader } from '../src/archive/write-header.ts'

const KIB = 2 ** 10
const MIB = 2 ** 20

/** A Debian system of 1 GiB: some 25,000 files of 22 KiB, and libraries, kernels and package lists of some MiB. */
const SMALL_FILES = 25_000
const FILES_IN_FOLDER = 25
const LARGE = 16 * MIB

/** Writes the archive of a made-up root file system, always the same, packed with zstd. */
export async function writeTree(path: string, size: number, signal: AbortSignal): Promise<void> {
  await using file = await open(path, 'w')
  await using packer = startPacker(PACK, { stdout: file.fd }, signal)
  const writer = new TarWriter(packer.stdin)
  const random = generator(1)
  const store = contents(random)
  const add = async (name: string, length: number) => {
    const directory = length < 0
    await writer.write(
      encodeHeader({
        path: name,
        name,
        kind: directory ? 'directory' : 'file',
        mode: directory ? 0o755 : 0o644,
        uid: 0,
        gid: 0,
        mtime: 1_700_000_000,
        size: Math.max(0, length),
        target: '',
        attributes: [],
      }),
    )
    for (let left = length; left > 0; ) {
      const taken = Math.min(left, KIB + Math.floor(random() * 31 * KIB))
      const from = Math.floor(random() * (store.length - taken))
      await writer.write(store.subarray(from, from + taken))
      left -= taken
    }
    await writer.pad()
  }
  await add('usr', -1)
  for (let index = 0; index < SMALL_FILES; index++) {
    const folder = `usr/share/package-${Math.floor(index / FILES_IN_FOLDER)}`
    if (index % FILES_IN_FOLDER === 0) await add(folder, -1)
    // Most are small, few are not: a mean of 22 KiB.
    await add(`${folder}/file-${index}.conf`, Math.floor(-Math.log(1 - random()) * 22 * KIB))
  }
  for (let index = 0; writer.total < size; index++) {
    await add(`usr/lib-${index}.so`, Math.min(LARGE, Math.max(KIB, size - writer.total - 2 * KIB)))
    if (writer.total > size - 4 * KIB) break
  }
  await writer.end()
  await packer.done
}

/** 64 MiB to cut files from, farther apart than zstd looks back: half words, half what hardly packs. */
function contents(random: () => number): Buffer {
  const store = Buffer.alloc(64 * MIB)
  const words = Array.from({ length: 4000 }, () =>
    Buffer.from(
      Math.floor(random() * 36 ** 9)
        .toString(36)
        .slice(0, 3 + Math.floor(random() * 6)),
    ),
  )
  let at = 0
  // Machine code: instructions of which some are much more frequent, with addresses between them.
  const instructions = Array.from({ length: 3000 }, () =>
    Buffer.from(Array.from({ length: 2 + Math.floor(random() * 10) }, () => Math.floor(random() * 256))),
  )
  while (at < store.length) {
    const text = random() < 0.5
    const pieces = text ? words : instructions
    for (let end = Math.min(store.length, at + 32 * KIB); at < end; ) {
      at += (pieces[Math.floor(random() ** 4 * pieces.length)] as Buffer).copy(store, at)
      if (at < store.length) store[at++] = text ? 0x20 : Math.floor(random() ** 3 * 256)
    }
  }
  return store
}

/** xorshift32: the same numbers from 0 to 1 in every run. */
function generator(seed: number): () => number {
  let state = seed
  return () => {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    return (state >>> 0) / 2 ** 32
  }
}
