import { createHash } from 'node:crypto'
import type { BootstrappedSystem } from './bootstrap.ts'
import { pointersFrom, readPointer, removePointer, writePointer } from './cache.ts'
import type { CachedFile, SourceContext } from './context.ts'

/**
 * Bootstrapped systems in the cache. One recipe may be there several times, each with other packages that it brings along
 * beyond those of the recipe.
 */

/**
 * The system that has most of the packages, and none beyond them. What it lacks the guest installs.
 * @param mayLack packages: a system that lacks more does not serve
 */
export async function findSystem(
  ctx: SourceContext,
  identity: string,
  wanted: readonly string[],
  mayLack = Number.POSITIVE_INFINITY,
): Promise<BootstrappedSystem | undefined> {
  const systems = [...(await pointersFrom(ctx.cacheDir, identity))]
    .filter(([, { brought }]) => brought.every((name) => wanted.includes(name)))
    .filter(([, { brought }]) => new Set(wanted).size - brought.length <= mayLack)
    .sort(([, a], [, b]) => b.brought.length - a.brought.length)
  for (const [pointer, { brought }] of systems) {
    const file = await readPointer(ctx, pointer)
    if (file !== undefined) return { ...file, brought }
  }
  return undefined
}

/** @param isFresh made because somebody asked for newer packages: older systems of the recipe count no more */
export async function keepSystem(
  { cacheDir }: SourceContext,
  identity: string,
  file: CachedFile,
  { brought, isFresh = false }: { brought: readonly string[]; isFresh?: boolean },
): Promise<BootstrappedSystem> {
  const list = createHash('sha256').update(JSON.stringify([...brought].sort()))
  const name = brought.length === 0 ? identity : `${identity}+${list.digest('hex').slice(0, 16)}`
  if (isFresh)
    for (const older of (await pointersFrom(cacheDir, identity)).keys()) await removePointer(cacheDir, older)
  await writePointer(cacheDir, name, file, brought)
  return { ...file, brought }
}
