import { asImagebuildError, ImagebuildError } from '../core/errors.ts'
import type { ImageSpec, SourceSpec } from '../definition/spec.ts'
import { sourceRequest } from '../plan/plan.ts'
import type { Note } from '../pve/marks.ts'
import { nodeTemplates, readNote, select, type Template } from '../pve/templates.ts'
import { findAppliance } from '../source/appliance.ts'
import {
  type BootstrapKind,
  type BootstrapRecipe,
  bootstrapIdentity,
  recipeFor,
} from '../source/bootstrap-recipe.ts'
import { isCatalogId, type ResolvedFile, resolveRelease } from '../source/catalog.ts'
import {
  isContainerReleaseId,
  type ResolvedRootfs,
  resolveContainerRelease,
} from '../source/container-catalog.ts'
import type { Architecture, SourceContext } from '../source/context.ts'
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
    | { kind: 'file'; file: FetchableFile & { format: string } }
    | { kind: 'bootstrap'; recipe: BootstrapRecipe }
    | { kind: 'template'; template: Template }
    /** of a container's parent: a clone would let nobody in, so its archive is unpacked anew */
    | { kind: 'archive'; volid: string; template: Template }
    /** the node downloads it */
    | { kind: 'appliance'; template: string }
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
      const { url, checksum } = source
      // A disk is unpacked here; an archive stays as it is.
      const [format = '', packing] = image.kind === 'vm' ? source.format.split('.') : [source.format]
      const file = { url, checksum, format, ...(packing && { packing: packing as 'xz' }) }
      return { record: record(identity, ''), from: { kind: 'file', file } }
    }
    case 'bootstrap': {
      const recipe = recipeOf(source, packagesFor(image))
      const identity = bootstrapIdentity(recipe, bootstrapKind(image))
      return { record: record(identity, recipe.suite), from: { kind: 'bootstrap', recipe } }
    }
    case 'appliance':
      return await fromAppliance(build, source, record)
    case 'image':
      return await fromParent(build, source.image, record)
    case 'release': {
      const { release, architecture, fallback } = source
      const recipe = fallback ? recipeFor(release, architecture, packagesFor(image)) : undefined
      // Once fallen back, an image keeps what it has until the user or a schedule has upstream looked at: one that comes
      // and goes must not rebuild it each time.
      if (
        !options.force &&
        !options.lookUpstream &&
        recipe &&
        known?.request === request &&
        known.fallback &&
        known.identity === bootstrapIdentity(recipe, bootstrapKind(image))
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
    const file = await resolveOnce(asked.build, source, context)
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
    const identity = bootstrapIdentity(recipe, bootstrapKind(image))
    const isAsBefore = known?.fallback === true && known.identity === identity
    emit({
      type: 'warning',
      image: image.name,
      message: `the ${image.kind === 'vm' ? 'cloud image' : 'root file system'} of ${source.release} ${isAsBefore ? 'still cannot' : 'cannot'} be reached (${failure.message}); ${isAsBefore ? 'staying with' : 'FALLING BACK to'} a system bootstrapped from ${recipe.suite}’s packages`,
    })
    return { record: record(identity, recipe.suite, true), from: { kind: 'bootstrap', recipe } }
  }
}

/** Many images of one release ask once; where it cannot be reached, one of them waits for that. */
function resolveOnce(
  { image, releases }: Build,
  source: Extract<SourceSpec, { kind: 'release' }>,
  context: SourceContext,
): Promise<ResolvedFile | ResolvedRootfs> {
  const name = `${image.kind} ${sourceRequest(source)}`
  const file = releases?.get(name) ?? resolveFile(image, source, context)
  releases?.set(name, file)
  return file
}

/** The loader has compared the name with the catalog already: that tells the type checker. */
async function resolveFile(
  image: ImageSpec,
  { release, architecture }: { release: string; architecture: Architecture },
  context: SourceContext,
): Promise<ResolvedFile | ResolvedRootfs> {
  if (image.kind === 'vm' && isCatalogId(release)) return await resolveRelease(release, architecture, context)
  if (image.kind === 'lxc' && isContainerReleaseId(release))
    return await resolveContainerRelease(release, architecture, context)
  throw new TypeError(`${release} is not in the catalog`)
}

/**
 * Proxmox's own appliances, which the node downloads itself. One that needs cloud-init to be told something is fetched
 * here, since its archive must be changed.
 */
async function fromAppliance(
  { pve, place, image }: Build,
  source: Extract<SourceSpec, { kind: 'appliance' }>,
  record: MakeRecord,
): Promise<SourceDecision> {
  const rows = await pve.api.nodes.$(place.node).aplinfo.$get()
  const at = { node: place.node, where: source.where }
  const { template, version, identity, checksum } = findAppliance(
    rows,
    source.appliance,
    source.architecture,
    at,
  )
  const found = record(identity, version)
  if (image.cloudInit.length === 0) return { record: found, from: { kind: 'appliance', template } }
  const url = rows.find((row) => row.template === template)?.location
  if (url === undefined || checksum === undefined) {
    throw new ImagebuildError({
      code: 'definition_invalid',
      what: `the appliance ${template} cannot be given cloud-init fragments`,
      where: source.where,
      why: `the list of ${place.node} does not tell ${url === undefined ? 'where it is' : 'its SHA-512'}, so it cannot be fetched here and changed`,
      next: 'take `cloudInit` out of the definition, or start from a `release` or a `url`',
    })
  }
  const format = template.slice(template.indexOf('.tar') + 1)
  return { record: found, from: { kind: 'file', file: { url, checksum, format } } }
}

async function fromParent(build: Build, parent: string, record: MakeRecord): Promise<SourceDecision> {
  const { pve, place, namespace, image, glance } = build
  const there =
    glance?.templates.filter(({ node }) => node === place.node) ??
    (await nodeTemplates(pve, place.node, namespace))
  const template = select(there, parent)
  const note = template && (await (glance?.note(template) ?? readNote(pve, template)))
  if (template === undefined || note?.digest === undefined) {
    throw new ImagebuildError({
      code: 'not_found',
      what: `${image.name} starts from ${parent}, and there is no current template of it on ${place.node}`,
      where: image.source.where,
      next: `imagebuild run ${parent}`,
    })
  }
  const found = record(note.digest, note.version ?? '')
  if (image.kind === 'vm') return { record: found, from: { kind: 'template', template } }
  const volid = note.archive?.volid
  if (volid === undefined) {
    throw new ImagebuildError({
      code: 'not_found',
      what: `${image.name} starts from ${parent}, whose current template was built without an archive`,
      where: image.source.where,
      why: 'Proxmox lets nobody put a key into the clone of a container: it is made anew from an archive',
      next: `imagebuild run ${parent} --force`,
    })
  }
  return { record: found, from: { kind: 'archive', volid, template } }
}

/** A virtual machine gets a disk, a container a root file system. */
function bootstrapKind({ kind }: ImageSpec): BootstrapKind {
  return kind === 'vm' ? 'disk' : 'rootfs'
}

/** A container has cloud-init only where its definition wants something of it. */
function packagesFor({ kind, cloudInit }: ImageSpec): string[] {
  return kind === 'lxc' && cloudInit.length > 0 ? ['cloud-init'] : []
}

function recipeOf(
  source: Extract<SourceSpec, { kind: 'bootstrap' }>,
  packages: readonly string[],
): BootstrapRecipe {
  return {
    distribution: source.distribution,
    suite: source.suite,
    arch: source.architecture,
    packages: [...source.packages, ...packages],
    ...(source.mirror !== undefined && { mirror: source.mirror }),
  }
}

export function describeSource({ from, record }: SourceDecision): string {
  switch (from.kind) {
    case 'bootstrap':
      return `bootstrapping ${from.recipe.distribution} ${from.recipe.suite} from packages`
    case 'template':
    case 'archive':
      return `starting from ${from.template.name}`
    default:
      return `fetching ${record.request}${record.version === '' ? '' : `, version ${record.version}`}`
  }
}
