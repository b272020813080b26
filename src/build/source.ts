import { asImagebuildError, ImagebuildError } from '../core/errors.ts'
import type { SourceSpec } from '../definition/spec.ts'
import { sourceRequest } from '../plan/plan.ts'
import type { Note } from '../pve/marks.ts'
import { nodeTemplates, readNote, select } from '../pve/templates.ts'
import { type BootstrapRecipe, bootstrapIdentity, recipeFor } from '../source/bootstrap-recipe.ts'
import { isCatalogId, resolveRelease } from '../source/catalog.ts'
import type { SourceContext } from '../source/context.ts'
import type { FetchableFile } from '../source/fetch.ts'
import type { Build } from './context.ts'

/**
 * From what a definition asks for to a disk that a guest can start from. Two steps, because the first is all
 * that `unchanged` needs: decide which exact bytes are meant, then have them on the storage.
 */

export type SourceRecord = NonNullable<Note['source']>

export interface SourceDecision {
  record: SourceRecord
  from:
    | { kind: 'file'; file: FetchableFile & { format: 'qcow2' | 'raw' } }
    | { kind: 'bootstrap'; recipe: BootstrapRecipe }
    | { kind: 'template'; template: { node: string; vmid: number; name: string } }
    /** upstream did not answer: known by its identity alone, from the current template */
    | { kind: 'unavailable'; why: Error }
}

/**
 * Decides which exact bytes an image starts from; downloads nothing but lists and their signatures.
 * @param known what the current template was made from
 */
export async function decideSource(
  build: Build,
  known: SourceRecord | undefined,
  context: SourceContext,
): Promise<SourceDecision> {
  const { image, options } = build
  const { source } = image
  const request = sourceRequest(source)
  const record = (identity: string, version: string, fallback = false): SourceRecord => ({
    request,
    identity,
    version,
    fallback,
  })
  switch (source.kind) {
    case 'url': {
      const identity = `${source.checksum.algorithm}:${source.checksum.value}`
      const [format, packing] = source.format.split('.') as ['qcow2' | 'raw', ('xz' | 'zst')?]
      const file = { url: source.url, checksum: source.checksum, format, ...(packing && { packing }) }
      return { record: record(identity, ''), from: { kind: 'file', file } }
    }
    case 'bootstrap': {
      const recipe = recipeOf(source)
      return { record: record(bootstrapIdentity(recipe), recipe.suite), from: { kind: 'bootstrap', recipe } }
    }
    case 'appliance':
      throw new TypeError(`${source.appliance} is no disk`)
    case 'image':
      return await fromParent(build, source.image, record)
    case 'release': {
      const recipe = source.fallback ? recipeFor(source.release, source.architecture) : undefined
      // Once fallen back, an image keeps what it has until someone asks for a rebuild: an upstream that comes
      // and goes must not rebuild it each time.
      if (
        !options.force &&
        recipe &&
        known?.request === request &&
        known.fallback &&
        known.identity === bootstrapIdentity(recipe)
      ) {
        return { record: known, from: { kind: 'bootstrap', recipe } }
      }
      return await fromRelease({ build, known, context }, source, recipe, record)
    }
  }
}

type MakeRecord = (identity: string, version: string, fallback?: boolean) => SourceRecord

async function fromRelease(
  asked: { build: Build; known: SourceRecord | undefined; context: SourceContext },
  source: Extract<SourceSpec, { kind: 'release' }>,
  recipe: BootstrapRecipe | undefined,
  record: MakeRecord,
): Promise<SourceDecision> {
  const { known, context } = asked
  const { image, emit } = asked.build
  try {
    // The loader has compared it with the catalog already; this tells the type checker.
    if (!isCatalogId(source.release)) throw new TypeError(`${source.release} is not in the catalog`)
    const file = await resolveRelease(source.release, source.architecture, context)
    return { record: record(file.identity, file.version), from: { kind: 'file', file } }
  } catch (error) {
    context.signal.throwIfAborted()
    const failure = asImagebuildError(error)
    // Only "cannot be reached" is excused. A wrong signature or checksum never is.
    if (failure.code !== 'unreachable') throw failure
    if (known?.request === sourceRequest(source) && !known.fallback) {
      emit({
        type: 'warning',
        image: image.name,
        message: `${failure.message}; taking ${source.release} for unchanged since ${known.version}`,
      })
      return { record: known, from: { kind: 'unavailable', why: failure } }
    }
    if (recipe === undefined) {
      throw new ImagebuildError({
        code: failure.code,
        what: failure.what,
        where: source.where,
        ...(failure.why !== undefined && { why: failure.why }),
        next: 'check the network of this machine, or add `fallback: bootstrap` to the source',
        cause: failure,
      })
    }
    emit({
      type: 'warning',
      image: image.name,
      message: `the cloud image of ${source.release} cannot be reached (${failure.message}); FALLING BACK to a system bootstrapped from ${recipe.suite}’s packages`,
    })
    return {
      record: record(bootstrapIdentity(recipe), recipe.suite, true),
      from: { kind: 'bootstrap', recipe },
    }
  }
}

async function fromParent(build: Build, parent: string, record: MakeRecord): Promise<SourceDecision> {
  const { pve, place, namespace, image } = build
  const template = select(await nodeTemplates(pve, place.node, namespace), parent)
  const note = template && (await readNote(pve, template))
  if (template === undefined || note?.digest === undefined) {
    throw new ImagebuildError({
      code: 'not_found',
      what: `${image.name} starts from ${parent}, and there is no current template of it on ${place.node}`,
      where: image.source.where,
      next: `imagebuild run ${parent}`,
    })
  }
  return { record: record(note.digest, note.version ?? ''), from: { kind: 'template', template } }
}

function recipeOf(source: Extract<SourceSpec, { kind: 'bootstrap' }>): BootstrapRecipe {
  return {
    distribution: source.distribution,
    suite: source.suite,
    arch: source.architecture,
    packages: source.packages,
    ...(source.mirror !== undefined && { mirror: source.mirror }),
  }
}

export function describeSource({ from, record }: SourceDecision): string {
  switch (from.kind) {
    case 'bootstrap':
      return `bootstrapping ${from.recipe.distribution} ${from.recipe.suite} from packages`
    case 'template':
      return `starting from ${from.template.name}`
    default:
      return `fetching ${record.request}${record.version === '' ? '' : `, version ${record.version}`}`
  }
}
