import { suggest } from '../core/did-you-mean.ts'
import type { Diagnostic } from './diagnostics.ts'
import type { HardeningFile } from './hardening-schema.ts'
import type { HardeningSpec, Layer } from './spec.ts'
import type { YamlFile } from './yaml-file.ts'

/** Debian's and upstream's packages of what runs containers. */
const CONTAINER_ENGINES = new Set([
  ...['docker.io', 'docker-ce', 'podman', 'containerd', 'containerd.io', 'cri-o', 'k3s', 'kubelet'],
  ...['lxc', 'incus', 'nomad'],
])

interface Context {
  yaml: YamlFile
  layers: readonly Layer[]
  /** of a container: it may have containers of its own */
  nesting: boolean
  /** ids of all items there are */
  items: readonly string[]
  report: (found: Diagnostic) => void
}

export function loadHardening(written: HardeningFile, context: Context): HardeningSpec {
  const { yaml, layers, nesting, items, report } = context
  const { line, column } = yaml.keyAt(['hardening'])
  const settings = typeof written === 'string' ? { profile: written } : written
  const { profile, containers, postQuantum = false, except = {} } = settings as Exclude<HardeningFile, string>
  for (const id of Object.keys(except)) {
    if (items.includes(id)) continue
    const hint = suggest(id, items) ?? '`imagebuild show <image> --hardening` lists all items'
    report(yaml.diagnostic(yaml.keyAt(['hardening', 'except', id]), `there is no item \`${id}\``, hint))
  }
  const engine = layers.some(
    (layer) => layer.kind === 'packages' && layer.install.some((one) => CONTAINER_ENGINES.has(bare(one))),
  )
  return {
    profile,
    containers: containers ?? (nesting || engine),
    postQuantum,
    except,
    where: { file: yaml.file, line, column },
  }
}

function bare(packageName: string): string {
  return packageName.replace(/=.*/, '')
}
