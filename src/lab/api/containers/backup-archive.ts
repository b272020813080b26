import { createReadStream, createWriteStream } from 'node:fs'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { PassThrough, Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { createGzip, createZstdDecompress, zstdCompressSync } from 'node:zlib'
import { execa } from 'execa'
import type { GuestConfig } from '../guests/store.ts'
import { PCT_CONF, printPctConf } from './pct-conf.ts'

/**
 * A backup is one archive: the configuration first, so that it is found at once, then the tree. Both archives and
 * compressed frames may simply follow each other, so the tree is not compressed again where it has its format.
 */
export async function writeBackup(options: {
  config: GuestConfig
  /** the container's tree, as .tar.zst */
  tree: string
  target: string
  /** .zst, .gz, .lzo, or nothing */
  suffix: string
  signal: AbortSignal
}): Promise<void> {
  const { tree, target, suffix, signal } = options
  const head = await configEntry(options.config)
  const output = createWriteStream(target)
  if (suffix === '.zst') {
    await pipeline(Readable.from(following(zstdCompressSync(head), createReadStream(tree))), output, {
      signal,
    })
    return
  }
  const plain = Readable.from(following(head, createReadStream(tree).pipe(createZstdDecompress())))
  const compressor =
    suffix === '.gz' ? createGzip() : suffix === '.lzo' ? execa('lzop', ['-c']).duplex() : new PassThrough()
  await pipeline(plain, compressor, output, { signal })
}

async function* following(head: Buffer, rest: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  yield head
  yield* rest
}

const BLOCK = 512

/** A tar archive without the empty blocks at its end: there is more to come. */
async function configEntry(config: GuestConfig): Promise<Buffer> {
  const folder = await mkdtemp(join(tmpdir(), 'vzdump-'))
  try {
    const text = Buffer.from(printPctConf(config))
    await mkdir(join(folder, dirname(PCT_CONF)), { recursive: true })
    await writeFile(join(folder, PCT_CONF), text, { mode: 0o644 })
    const args = [
      '--create',
      '--format=gnu',
      '--owner=0',
      '--group=0',
      '--numeric-owner',
      '-C',
      folder,
      PCT_CONF,
    ]
    const { stdout } = await execa('tar', args, { encoding: 'buffer' })
    return Buffer.from(stdout).subarray(0, BLOCK * (1 + Math.ceil(text.length / BLOCK)))
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}
