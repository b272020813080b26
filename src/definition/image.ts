import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import type { z } from 'zod'
import { suggest } from '../core/did-you-mean.ts'
import { loadChecks } from './checks.ts'
import type { Diagnostic } from './diagnostics.ts'
import { check } from './explain.ts'
import { type LoadedFragment, loadFragment } from './fragments.ts'
import { type KnownItem, loadHardening } from './hardening.ts'
import { checkHardware, featuresOf } from './hardware.ts'
import { type ImageKind, imageFile, type LxcFile, type VmFile, vmFile } from './image-schema.ts'
import { kindOf, kindWithKey, schemaOfAnyKind, schemaOfKind } from './kind.ts'
import { loadLayers } from './layers.ts'
import { type EndOfLife, loadSource } from './source.ts'
import type { Fragment, ImageSpec } from './spec.ts'
import { loadSsh } from './ssh.ts'
import { refuseSshFiles } from './ssh-files.ts'
import { loadRepositories } from './updates.ts'
import { type Path, YamlFile } from './yaml-file.ts'

export const IMAGE_FILE = 'image.yaml'

/** What the images of one project have in common while they are loaded. */
export interface ImageContext {
  root: string
  /** names of all folders in images/ that hold an image.yaml */
  names: readonly string[]
  /** ids of the catalog of releases, for each kind of image */
  releases: Readonly<Record<ImageKind, readonly string[]>>
  /** all hardening items */
  hardeningItems: readonly KnownItem[]
  endOfLife: EndOfLife
  /** names of all fragments in cloud-init/ */
  fragmentNames: readonly string[]
  /** fragments that were read already: their mistakes are told once */
  fragments: Map<string, LoadedFragment>
  report: (found: Diagnostic) => void
}

/**
 * One image and the files that it names. The name of its parent comes back even where the definition is wrong,
 * so that the parent's mistakes are found in the same go.
 */
export async function loadImageFile(
  folderName: string,
  context: ImageContext,
): Promise<{ spec?: ImageSpec; parent?: string; yaml: YamlFile }> {
  const folder = join(context.root, 'images', folderName)
  const file = join(folder, IMAGE_FILE)
  let mistakes = 0
  const report = (found: Diagnostic) => {
    if (found.severity === 'error') mistakes++
    context.report(found)
  }
  const yaml = YamlFile.read(file)
  for (const found of yaml.diagnostics) report(found)
  if (yaml.value === undefined) return { yaml }
  const { kind, misspelt } = kindOf(yaml.value)
  const whereElse = (path: Path, key: string) => {
    const other = kindWithKey(path, key, kind)
    return other && `only means something with \`kind: ${other}\``
  }
  const { value, diagnostics } = misspelt
    ? { ...check(schemaOfAnyKind(kind), yaml, { whereElse }), value: undefined }
    : check(imageFile, yaml, { whereElse })
  for (const found of diagnostics) report(found)
  checkName(folderName, yaml, context, report)
  const parent = checkParent(folderName, yaml, context, report)
  const parentName = parent === undefined ? {} : { parent }

  // Each part that is right in itself is looked into further, whatever is wrong elsewhere in the file.
  const parts = value === undefined ? rightParts(yaml.value, kind) : partsOf(value)
  const source =
    parts.source &&
    (await loadSource(parts.source, {
      ...{ kind, yaml, folder, report },
      releases: context.releases[kind],
      endOfLife: context.endOfLife,
    }))
  const machine =
    parts.machine && checkHardware(parts.machine, parts.source?.architecture ?? 'amd64', yaml, report)
  const cloudInit = loadFragments(parts.cloudInit, yaml, context, report)
  const layers = loadLayers(parts.provision, yaml, folder, report)
  const ssh = await loadSsh(parts.ssh, folder, { yaml, report })
  refuseSshFiles(layers, yaml, report)
  const hardening = loadHardening(parts.hardening, {
    yaml,
    layers,
    kind,
    unprivileged: value?.kind === 'lxc' && value.unprivileged,
    fromPackages: source?.kind === 'bootstrap' ? source.packages : [],
    items: context.hardeningItems,
    report,
  })
  const checks = loadChecks(parts.checks, yaml)
  const repositories = loadRepositories(parts.repositories, { yaml, folder, report })
  if (!value || !source || mistakes > 0) return { yaml, ...parentName }

  const { line, column } = yaml.at([])
  const common = {
    name: value.name,
    ...(value.description !== undefined && { description: value.description }),
    source,
    cloudInit,
    layers,
    ssh,
    hardening,
    checks,
    repositories,
    build: value.build,
    where: { file, line, column },
  }
  if (value.kind === 'lxc') {
    const { hardware, unprivileged, template } = value
    const features = featuresOf(value.features, unprivileged)
    const spec: ImageSpec = { ...common, kind: 'lxc', hardware, unprivileged, features, template }
    return { spec, yaml, ...parentName }
  }
  if (!machine) return { yaml, ...parentName }
  const spec: ImageSpec = { ...common, kind: 'vm', hardware: machine, template: value.template }
  return { spec, yaml, ...parentName }
}

/** Of a definition in which nothing is wrong. */
function partsOf(value: VmFile | LxcFile): ReturnType<typeof rightParts> {
  const { source, cloudInit, provision, ssh, hardening, checks, updates } = value
  const machine = value.kind === 'vm' ? value.hardware : undefined
  const { repositories } = updates
  return { source, machine, cloudInit, provision, ssh, hardening, checks, repositories }
}

/** Those parts of a definition that its schema accepts on their own. */
function rightParts(value: unknown, kind: ImageKind) {
  const written = (typeof value === 'object' && value !== null ? value : {}) as Record<string, unknown>
  const { source, cloudInit, provision, ssh, hardening, checks, updates } = schemaOfKind(kind).shape
  const { repositories } = updates.unwrap().shape
  const { updates: asked } = written as { updates?: { repositories?: unknown } | null }
  return {
    source: source.safeParse(written.source).data,
    machine: kind === 'vm' ? vmFile.shape.hardware.safeParse(written.hardware).data : undefined,
    cloudInit: cloudInit.safeParse(written.cloudInit).data ?? [],
    ssh: ssh.safeParse(written.ssh).data ?? { principals: {} },
    hardening: hardening.safeParse(written.hardening).data ?? ('none' as const),
    provision: each(written.provision, provision.unwrap().element),
    checks: each(written.checks, checks.unwrap().element),
    repositories: each(asked?.repositories, repositories.unwrap().element),
  }
}

function each<Schema extends z.ZodType>(written: unknown, schema: Schema): (z.output<Schema> | undefined)[] {
  return Array.isArray(written) ? written.map((one) => schema.safeParse(one).data) : []
}

function checkName(
  folderName: string,
  yaml: YamlFile,
  context: ImageContext,
  report: (found: Diagnostic) => void,
): void {
  const written = (yaml.value as { name?: unknown } | null)?.name
  if (typeof written !== 'string' || written === folderName) return
  const taken = context.names.includes(written)
  const why = taken ? `; images/${written} has that name already` : ', as its folder is called'
  report(
    yaml.diagnostic(
      yaml.at(['name']),
      `\`name\` must be ${folderName}${why}`,
      taken ? undefined : 'or rename the folder',
    ),
  )
}

function checkParent(
  folderName: string,
  yaml: YamlFile,
  context: ImageContext,
  report: (found: Diagnostic) => void,
): string | undefined {
  const parent = (yaml.value as { source?: { image?: unknown } } | null)?.source?.image
  if (typeof parent !== 'string') return undefined
  if (context.names.includes(parent)) return parent
  const message = `there is no image \`${parent}\``
  const others = context.names.filter((name) => name !== folderName)
  report(yaml.diagnostic(yaml.at(['source', 'image']), message, suggest(parent, others, 'images')))
  return undefined
}

function loadFragments(
  names: readonly string[],
  yaml: YamlFile,
  context: ImageContext,
  report: (found: Diagnostic) => void,
): Fragment[] {
  const loaded: Fragment[] = []
  for (const [index, name] of names.entries()) {
    const span = yaml.at(['cloudInit', index])
    if (names.indexOf(name) < index) {
      report(yaml.diagnostic(span, `the fragment \`${name}\` is here twice`))
      continue
    }
    if (!context.fragmentNames.includes(name)) {
      const message = `there is no fragment cloud-init/${name}.yaml`
      report(yaml.diagnostic(span, message, suggest(name, context.fragmentNames, 'fragments')))
      continue
    }
    const read = context.fragments.get(name) ?? loadFragment(join(context.root, 'cloud-init'), name)
    context.fragments.set(name, read)
    const { fragment, diagnostics } = read
    for (const found of diagnostics) report(found)
    if (fragment) loaded.push(fragment)
  }
  return loaded
}

/** Names of what is in a folder; undefined for what is no folder, or cannot be read. */
export function filesIn(folder: string): string[] | undefined {
  try {
    return readdirSync(folder)
  } catch {
    return undefined
  }
}

/** Names (without .yaml) of the fragments in a folder; none where there is no such folder. */
export function listFragments(root: string): string[] {
  return (filesIn(join(root, 'cloud-init')) ?? [])
    .filter((entry) => entry.endsWith('.yaml'))
    .map((entry) => entry.slice(0, -'.yaml'.length))
    .sort()
}
