import { randomUUID } from 'node:crypto'
import { open, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { makeFolder } from '../core/make-folder.ts'
import { adoptFile, confirmUnchanged, readPointer, writePointer } from './cache.ts'
import type { CachedFile, SourceContext } from './context.ts'
import { outOfRoom } from './disk-room.ts'
import { runTool, toolOutput } from './tool.ts'

/** How a file is packed, as the ending of its name. */
export type Packing = 'xz' | 'zst' | 'gz'

const COMMANDS = {
  xz: ['xz', '--decompress', '--stdout', '--threads=0', '--'],
  // Images are packed with a long window sometimes; 31 is what zstd can do at most.
  zst: ['zstd', '--decompress', '--stdout', '--long=31', '--quiet', '--'],
  gz: ['gzip', '--decompress', '--stdout', '--'],
} as const

/**
 * The unpacked form of a verified file, kept in the cache beside it.
 * @throws ImagebuildError `build_failed` if it is not packed that way; `prerequisite_missing` without the tool for it
 */
export async function unpackFile(
  packed: CachedFile,
  packing: Packing,
  format: string,
  ctx: SourceContext,
): Promise<CachedFile> {
  const identity = `${packed.digest}-unpacked`
  const known = await readPointer(ctx, identity)
  if (known) return known
  await makeFolder(join(ctx.cacheDir, 'partial'))
  const target = join(ctx.cacheDir, 'partial', `unpacking.${process.pid}.${randomUUID()}`)
  try {
    const [command, ...args] = COMMANDS[packing]
    await using output = await open(target, 'w')
    await runTool(
      command,
      [...args, packed.path],
      { purpose: `unpacking ${packed.path} (${packing})`, output: output.fd },
      ctx,
    )
    await confirmUnchanged(packed, ctx.signal)
    const file = await adoptFile(ctx, target, format)
    await writePointer(ctx.cacheDir, identity, file)
    return file
  } catch (error) {
    ctx.signal.throwIfAborted()
    throw await outOfRoom(error, ctx.cacheDir, { purpose: `unpacking ${packed.path}` })
  } finally {
    await rm(target, { force: true })
  }
}

/**
 * The unpacked bytes of a verified file as a stream, for what is read once and kept in another form. Whoever has read it to
 * its end asks whether the file is still the same (`confirmUnchanged`).
 * @throws ImagebuildError `build_failed` if it is not packed that way; `prerequisite_missing` without the tool for it
 */
export async function* unpackedChunks(
  packed: Pick<CachedFile, 'path'>,
  packing: Packing,
  ctx: Pick<SourceContext, 'signal'>,
): AsyncGenerator<Buffer> {
  const [command, ...args] = COMMANDS[packing]
  yield* toolOutput(command, [...args, packed.path], `unpacking ${packed.path} (${packing})`, ctx)
}
