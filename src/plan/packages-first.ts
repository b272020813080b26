import type { Layer } from '../definition/spec.ts'
import type { PlannedLayer } from './plan.ts'

/**
 * Packages that an image begins with: those of its hardening, and of the definition's layers up to the first that does
 * anything else. They are installed in one transaction, and known before anything is built, so that a system that is made
 * from packages can bring them along.
 */

export type PackagesLayer = Extract<Layer, { kind: 'packages' }>

/** The layers at the beginning of a plan that only install packages. */
export function firstPackages(layers: readonly PlannedLayer[]): PackagesLayer[] {
  const first: PackagesLayer[] = []
  for (const { layer } of layers) {
    if (layer.kind !== 'packages' || layer.upgrade || layer.remove.length > 0) break
    first.push(layer)
  }
  return first
}

/** What all of these layers install, without `without`; sorted. */
export function packagesOf(layers: readonly PackagesLayer[], without: readonly string[] = []): string[] {
  const names = new Set(layers.flatMap(({ install }) => install))
  return [...names].filter((name) => !without.includes(name)).sort()
}

/**
 * What cloud-init may have been told without any effect on which packages apt installs, or on what their scripts do. With
 * anything else packages are installed in the guest, after cloud-init.
 */
const HARMLESS: ReadonlySet<string> = new Set([
  'timezone',
  'locale',
  'keyboard',
  'disable_root',
  'disable_root_opts',
  'ssh_pwauth',
  'ssh_authorized_keys',
  'ssh_deletekeys',
  'ssh_genkeytypes',
  'ssh_quiet_keygen',
  'allow_public_ssh_keys',
  'no_ssh_fingerprints',
  'growpart',
  'resize_rootfs',
  'final_message',
])

/** Whether packages may be installed before cloud-init has seen this configuration. */
export function mayPrecede(config: Readonly<Record<string, unknown>>): boolean {
  return Object.entries(config).every(
    ([key, value]) => HARMLESS.has(key) || (/^(package|apt)_(update|upgrade)$/.test(key) && value === false),
  )
}
