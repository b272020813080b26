import { createHash } from 'node:crypto'
import type { BootstrappedSystem } from './bootstrap.ts'
import { pointersFrom, readPointer, writePointer } from './cache.ts'
import type { CachedFile, SourceContext } from './context.ts'

/**
 * Bootstrapped systems in the cache. One recipe may be there several times, each with other packages that it brings along
 * beyond those of the recipe.
 */

/** A system that lacks no more packages than this serves: a guest installs them in less time than a bootstrap takes. */
const FEW = 5

/** The system that has most of the packages, and none beyond them; undefined where a new one is quicker. */
export async function findSystem(
  ctx: SourceContext,
  identity: string,
  wanted: readonly string[],
): Promise<BootstrappedSystem | undefined> {
  const systems = [...(await pointersFrom(ctx.cacheDir, identity))]
    .filter(([, { brought }]) => brought.every((name) => wanted.includes(name)))
    .filter(([, { brought }]) => wanted.length - brought.length <= FEW)
    .sort(([, a], [, b]) => b.brought.length - a.brought.length)
  for (const [pointer, { brought }] of systems) {
    const file = await readPointer(ctx, pointer)
    if (file !== undefined) return { ...file, brought }
  }
  return undefined
}

export async function keepSystem(
  { cacheDir }: SourceContext,
  identity: string,
  file: CachedFile,
  brought: readonly string[],
): Promise<BootstrappedSystem> {
  const list = createHash('sha256').update(JSON.stringify([...brought].sort()))
  const name = brought.length === 0 ? identity : `${identity}+${list.digest('hex').slice(0, 16)}`
  await writePointer(cacheDir, name, file, brought)
  return { ...file, brought }
}
