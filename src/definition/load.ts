import { statSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import { suggest } from '../core/did-you-mean.ts'
import { ImagebuildError } from '../core/errors.ts'
import { type Config, loadConfig } from './config.ts'
import { type Diagnostic, InvalidDefinition, sortDiagnostics } from './diagnostics.ts'
import { findVmidConflicts, readFixedVmids } from './fixed-vmids.ts'
import { loadFragment } from './fragments.ts'
import { applies, type KnownItem } from './hardening.ts'
import { filesIn, IMAGE_FILE, type ImageContext, listFragments, loadImageFile } from './image.ts'
import type { ImageKind } from './image-schema.ts'
import { isPattern, matchNames } from './match.ts'
import { findCycles, findForeignParents, findUnfitParents, type Member } from './parents.ts'
import type { EndOfLife } from './source.ts'
import type { ImageSpec } from './spec.ts'
import { withParents } from './updates.ts'
import type { YamlFile } from './yaml-file.ts'

export interface Project extends Config {
  /** names of all images there are, also of those that were not loaded */
  imageNames: string[]
  /** names of the images that were asked for */
  wanted: string[]
  /** VMIDs that any image is fixed to: no temporary guest may have one */
  fixedVmids: number[]
  /** the images that were asked for and their parents, by name; parents come before their children */
  images: Map<string, ImageSpec>
  /** what is doubtful but not wrong */
  warnings: Diagnostic[]
}

export interface LoadOptions {
  /** ids of the catalog of releases, `debian/13`, …, for each kind of image */
  releases: Readonly<Record<ImageKind, readonly string[]>>
  /** all hardening items */
  hardeningItems: readonly KnownItem[]
  endOfLife: EndOfLife
  /**
   * Load only these images (names, or globs) and their parents: a mistake in another one does not matter then.
   * Without this, all images are loaded, and every fragment in cloud-init/ is looked at.
   */
  images?: readonly string[]
}

/**
 * Reads imagebuild.yaml and the images.
 * @throws InvalidDefinition (`definition_invalid`) with all mistakes of all files
 * @throws ImagebuildError `usage` when an image is asked for that does not exist
 */
export async function loadProject(configFile: string, options: LoadOptions): Promise<Project> {
  const file = resolve(configFile)
  const root = dirname(file)
  const found: Diagnostic[] = []
  const report = (diagnostic: Diagnostic) => void found.push(diagnostic)

  const config = await loadConfig(file, report)
  const imageNames = listImages(root, report)
  const wanted =
    options.images && matchNames(options.images, imageNames, (name) => noSuchImage(name, imageNames, root))
  const context: ImageContext = {
    root,
    names: imageNames,
    releases: options.releases,
    hardeningItems: options.hardeningItems,
    endOfLife: options.endOfLife,
    fragmentNames: listFragments(root),
    fragments: new Map(),
    report,
  }
  const images = await loadImages(wanted ?? imageNames, context, config?.targets ?? {})
  if (options.images === undefined) loadUnusedFragments(context)

  const errors = found.filter((diagnostic) => diagnostic.severity === 'error')
  if (errors.length > 0 || config === undefined) throw new InvalidDefinition(errors)
  return {
    ...config,
    imageNames,
    wanted: wanted ?? imageNames,
    fixedVmids: readFixedVmids(root, imageNames),
    images,
    warnings: sortDiagnostics(found),
  }
}

/** The wanted images and all their ancestors, ancestors first. */
async function loadImages(
  wanted: readonly string[],
  context: ImageContext,
  targets: Config['targets'],
): Promise<Map<string, ImageSpec>> {
  const members = new Map<string, Member & { spec?: ImageSpec }>()
  const queue = [...wanted]
  for (let name = queue.shift(); name !== undefined; name = queue.shift()) {
    if (members.has(name)) continue
    const loaded = await loadImageFile(name, context)
    members.set(name, loaded)
    if (loaded.parent !== undefined) queue.push(loaded.parent)
  }
  const cycles = findCycles(members)
  const foreign = [...findForeignParents(members), ...findUnfitParents(members)]
  for (const found of [...cycles, ...foreign, ...findVmidConflicts(members, targets)]) context.report(found)

  const specs = new Map<string, ImageSpec>()
  const add = (name: string) => {
    const member = members.get(name)
    if (member?.spec === undefined || specs.has(name)) return
    if (member.parent !== undefined) add(member.parent)
    const parent = member.parent === undefined ? undefined : specs.get(member.parent)
    const spec = updatesToo(refusesToo(runsContainersToo(member.spec, member.yaml, parent), parent), parent)
    specs.set(name, withInherited(spec, member.yaml, specs, context))
  }
  if (cycles.length === 0) for (const name of members.keys()) add(name)
  return specs
}

/** What its parent's packages are for, a child is for as well, unless its definition says otherwise. */
function runsContainersToo(spec: ImageSpec, yaml: YamlFile, parent: ImageSpec | undefined): ImageSpec {
  if (!parent?.hardening.containers || yaml.has(['hardening', 'containers'])) return spec
  return { ...spec, hardening: { ...spec.hardening, containers: true } }
}

/** What its parent's own list revokes, a child revokes as well, whatever the target's says, unless it brings one itself. */
function refusesToo(spec: ImageSpec, parent: ImageSpec | undefined): ImageSpec {
  const revokedKeys = parent?.ssh.revokedKeys
  if (revokedKeys === undefined || spec.ssh.revokedKeys !== undefined) return spec
  return { ...spec, ssh: { ...spec.ssh, revokedKeys } }
}

/** What a child has of its parent gets newer where the parent's does. */
function updatesToo(spec: ImageSpec, parent: ImageSpec | undefined): ImageSpec {
  return { ...spec, repositories: withParents(spec.repositories, parent?.repositories ?? []) }
}

/** An exception stops an image from applying an item; it does not undo what the images that it is built on have applied. */
function withInherited(
  spec: ImageSpec,
  yaml: YamlFile,
  specs: ReadonlyMap<string, ImageSpec>,
  { hardeningItems, report }: ImageContext,
): ImageSpec {
  const inherited: NonNullable<ImageSpec['hardening']['inherited']> = {}
  const excepted = hardeningItems.filter(({ id }) => spec.hardening.except[id] !== undefined)
  for (const { source } of ancestorsFirst(spec, specs)) {
    const parent = source.kind === 'image' ? specs.get(source.image) : undefined
    if (parent === undefined) continue
    const { file, line } = parent.hardening.where
    for (const item of excepted) {
      if (!applies(item, parent)) continue
      inherited[item.id] = { image: parent.name, where: parent.hardening.where }
      const span = yaml.keyAt(['hardening', 'except', item.id])
      const message = `\`${item.id}\` stays as \`${parent.name}\` has applied it (${file}:${line}), and is checked no more`
      const hint = 'to be without it, except it there too, or undo it in a layer here'
      report(yaml.diagnostic(span, message, hint, 'warning'))
    }
  }
  return Object.keys(inherited).length === 0 ? spec : { ...spec, hardening: { ...spec.hardening, inherited } }
}

/** An image and those that it is built on, itself last. */
function ancestorsFirst(spec: ImageSpec, specs: ReadonlyMap<string, ImageSpec>): ImageSpec[] {
  const parent = spec.source.kind === 'image' ? specs.get(spec.source.image) : undefined
  return [...(parent === undefined ? [] : ancestorsFirst(parent, specs)), spec]
}

/** Fragments that no image names: nobody else would find their mistakes. */
function loadUnusedFragments({ root, fragmentNames, fragments, report }: ImageContext): void {
  for (const name of fragmentNames.filter((one) => !fragments.has(one))) {
    const { diagnostics } = loadFragment(join(root, 'cloud-init'), name)
    for (const diagnostic of diagnostics) report(diagnostic)
  }
}

/** Folders in images/ that hold an image.yaml, by name. */
export function listImages(root: string, report: (found: Diagnostic) => void): string[] {
  const folder = join(root, 'images')
  const names: string[] = []
  for (const name of (filesIn(folder) ?? []).sort()) {
    const inside = filesIn(join(folder, name))
    if (inside?.includes(IMAGE_FILE) && statSync(join(folder, name, IMAGE_FILE)).isFile()) names.push(name)
    else if (inside && !name.startsWith('.')) report(notAnImage(join(folder, name), inside))
  }
  return names
}

function notAnImage(folder: string, inside: readonly string[]): Diagnostic {
  const similar = inside.find((name) => /^image\.(yml|json)$/.test(name))
  return {
    severity: 'warning',
    file: join(folder, similar ?? IMAGE_FILE),
    line: 1,
    column: 1,
    message: similar ? `only ${IMAGE_FILE} is read, not ${similar}` : `this folder holds no ${IMAGE_FILE}`,
    frame: '',
  }
}

function noSuchImage(name: string, known: readonly string[], root: string): ImagebuildError {
  if (isPattern(name)) return noneFits(name, known)
  const hint = suggest(name, known, 'there are')
  return new ImagebuildError({
    code: 'usage',
    what: `there is no image ${name}`,
    why: `${join(root, 'images', name, IMAGE_FILE)} does not exist`,
    next: hint ?? 'write its image.yaml first',
  })
}

function noneFits(pattern: string, known: readonly string[]): ImagebuildError {
  return new ImagebuildError({
    code: 'usage',
    what: `no image is called ${pattern}`,
    next: known.length === 0 ? 'write an image.yaml first' : `there are ${known.join(', ')}`,
  })
}
