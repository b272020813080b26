import { mkdtempDisposable, readdir } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { execa } from 'execa'
import { type RewriteOptions, rewriteArchive } from '../../src/archive/rewrite.ts'

/** A folder for one test. */
export function workplace() {
  return mkdtempDisposable(join(tmpdir(), 'imagebuild-archive-'))
}

/** Rewrites bytes, and gives those of the new tar, unpacked by zstd. */
export async function rewriteBytes(
  input: Buffer,
  options: Partial<RewriteOptions> = {},
): Promise<{ tar: Buffer; packed: string; left: string[] }> {
  await using folder = await workplace()
  const output = join(folder.path, 'out.tar.zst')
  const { sha256 } = await rewriteArchive({
    input: Readable.from([input]),
    output,
    signal: new AbortController().signal,
    ...options,
  })
  const { stdout } = await execa('zstd', ['-dqc', output], { encoding: 'buffer', maxBuffer: 2 ** 30 })
  return { tar: Buffer.from(stdout), packed: sha256, left: await readdir(folder.path) }
}

/** Lines of `tar --list`. */
export async function list(tar: Buffer): Promise<string[]> {
  const { stdout } = await execa('tar', ['--list', '--file=-'], { input: tar })
  return stdout.split('\n')
}
