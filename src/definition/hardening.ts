import { normalize } from 'node:path/posix'
import { suggest } from '../core/did-you-mean.ts'
import type { Diagnostic } from './diagnostics.ts'
import type { HardeningFile, Profile } from './hardening-schema.ts'
import type { ImageKind } from './image-schema.ts'
import { pathOfLayer } from './layers.ts'
import type { HardeningSpec, ImageSpec, Layer } from './spec.ts'
import type { Path, YamlFile } from './yaml-file.ts'

/** Debian's and upstream's packages of what runs containers. */
const CONTAINER_ENGINES = new Set([
  ...['docker.io', 'docker-ce', 'podman', 'containerd', 'containerd.io', 'cri-o', 'k3s', 'kubelet'],
  ...['lxc', 'incus', 'nomad'],
])

/** Not that a container may have containers of its own: most have `nesting` for systemd's sake. */
function isEngine(packageName: string): boolean {
  return CONTAINER_ENGINES.has(bare(packageName))
}

/** What a definition may run into of a hardening item. */
export interface KnownItem {
  id: string
  profile: Exclude<Profile, 'none'>
  /** packages that it refuses or removes, and the files that it writes; undefined where it does not apply */
  on(machine: Machine): { forbids: readonly string[]; writes: readonly string[] } | undefined
}

interface Machine {
  kind: ImageKind
  unprivileged: boolean
  containerHost: boolean
  postQuantum: boolean
}

interface Context {
  yaml: YamlFile
  layers: readonly Layer[]
  kind: ImageKind
  /** of a container */
  unprivileged: boolean
  /** of a system that is made from packages: those that it begins with */
  fromPackages: readonly string[]
  /** all items there are */
  items: readonly KnownItem[]
  report: (found: Diagnostic) => void
}

export function loadHardening(written: HardeningFile, context: Context): HardeningSpec {
  const { yaml, layers, kind, unprivileged, fromPackages, items, report } = context
  const ids = items.map(({ id }) => id)
  const { line, column } = yaml.keyAt(['hardening'])
  const settings = typeof written === 'string' ? { profile: written } : written
  const { profile, containers, postQuantum = false, except = {} } = settings as Exclude<HardeningFile, string>
  for (const id of Object.keys(except)) {
    if (ids.includes(id)) continue
    const hint = suggest(id, ids) ?? '`imagebuild show <image> --hardening` lists all items'
    report(yaml.diagnostic(yaml.keyAt(['hardening', 'except', id]), `there is no item \`${id}\``, hint))
  }
  const packages = layers.flatMap((layer) => (layer.kind === 'packages' ? layer.install : []))
  const containerHost = containers ?? [...fromPackages, ...packages].some(isEngine)
  const there = installed(layers, yaml)
  for (const item of items) {
    if (!isOf(profile, item) || except[item.id] !== undefined) continue
    const { forbids, writes } = item.on({ kind, unprivileged, containerHost, postQuantum }) ?? NOTHING
    const hint = `if it has to be: hardening.except: { ${item.id}: <the reason> }`
    for (const [name, path] of there) {
      if (!forbids.includes(name)) continue
      const message = `\`${name}\` is refused by \`hardening\`: ${item.id}`
      report(yaml.diagnostic(yaml.at(path), message, hint))
    }
    for (const layer of layers) {
      if (layer.kind !== 'file' || !writes.includes(normalize(layer.path))) continue
      const message = `\`hardening\` writes ${layer.path} itself, after all layers: ${item.id}`
      report(yaml.diagnostic(yaml.at([...pathOfLayer(layer, yaml), 'file', 'path']), message, hint))
    }
  }
  return {
    profile,
    containers: containerHost,
    postQuantum,
    except,
    where: { file: yaml.file, line, column },
  }
}

const NOTHING = { forbids: [], writes: [] }

/** Whether a profile contains the item: `cis-l1` has them all. */
function isOf(profile: Profile, item: KnownItem): boolean {
  return profile === 'cis-l1' || (profile === 'baseline' && item.profile === 'baseline')
}

/** Whether an image's own hardening does what the item is about. */
export function applies(item: KnownItem, image: ImageSpec): boolean {
  const { profile, except, containers: containerHost, postQuantum } = image.hardening
  const unprivileged = image.kind === 'lxc' && image.unprivileged
  const machine = { kind: image.kind, unprivileged, containerHost, postQuantum }
  return isOf(profile, item) && except[item.id] === undefined && item.on(machine) !== undefined
}

/** Names of the packages that are installed when the last layer is done, each with its place. */
function installed(layers: readonly Layer[], yaml: YamlFile): Map<string, Path> {
  const found = new Map<string, Path>()
  for (const layer of layers) {
    if (layer.kind !== 'packages') continue
    const at = [...pathOfLayer(layer, yaml), 'packages']
    const list = yaml.has([...at, 'install']) ? [...at, 'install'] : at
    for (const name of layer.remove) found.delete(name)
    for (const [index, name] of layer.install.entries()) found.set(bare(name), [...list, index])
  }
  return found
}

function bare(packageName: string): string {
  return packageName.replace(/=.*/, '')
}
