import type { Check } from '../definition/check.ts'
import type { ImageSpec, Layer, SourceSpec } from '../definition/spec.ts'
import { expandHardening, type LeftOut } from '../hardening/expand.ts'
import {
  type Certificates,
  certificateLayers,
  certificatesOf,
  type TargetCertificates,
} from './certificates.ts'
import { canonicalJson, type Digest, digestBytes, digestOf, type Json } from './identity.ts'

/**
 * Deciding what an image is, before anything is done. Pure: the same spec and the same source give the same
 * plan on every machine.
 */
export interface Plan {
  image: ImageSpec
  /** of the whole definition: what `unchanged` compares */
  digest: Digest
  /** what the layers start from, as it goes into the digest */
  start: { [key: string]: Json | undefined }
  /** hardening's packages, the definition's own, then those that its certificates and the rest of its hardening come to */
  layers: PlannedLayer[]
  /** what the layers end in, as it goes into the digest */
  result: { [key: string]: Json | undefined }
  /** script for the end of the build, just before sealing; empty where there is none */
  atSeal: string
  certificates: Certificates
  /** asked of a clone: the hardening's, then the definition's own */
  checks: Check[]
  /** hardening items that are done, by id, with a digest of what is done for each */
  items: Record<string, Digest>
  /** what of the hardening is not done, and why */
  left: LeftOut[]
}

export interface PlannedLayer {
  layer: Layer
  /** over this layer and all that came before it */
  digest: Digest
  /** what of it goes into the digest */
  identity: Json
  /** who asks for it */
  by: 'definition' | 'certificates' | 'hardening'
}

/**
 * Raised when imagebuild itself changes what it makes of the same definition (sealing, seed): all images are
 * then rebuilt once.
 */
export const RECIPE_VERSION = 3

/** What a plan needs to know beyond the definition. */
export interface PlanFacts {
  /** of the bytes that the image starts from */
  sourceIdentity: string
  /** of the target */
  ssh: TargetCertificates
}

/**
 * Left out of the digest, because they cannot change the result: build (cores, memory, timeouts), the
 * timeouts and names of layers, checks, secrets, how long a template is good, where its updates come from, and
 * everything of a target but its CAs (node, storage, bridge, MAC, address, VMID).
 */
export function makePlan(image: ImageSpec, { sourceIdentity, ssh }: PlanFacts): Plan {
  const certificates = certificatesOf(image.ssh, ssh)
  const { kind, hardening: wanted } = image
  const { keep: _keep, vmid: _vmid, maxAge: _maxAge, ...template } = image.template
  const hardening = expandHardening(wanted, {
    kind,
    unprivileged: kind === 'lxc' && image.unprivileged,
    containerHost: wanted.containers,
    postQuantum: wanted.postQuantum,
  })
  const start = {
    recipe: RECIPE_VERSION,
    kind: image.kind,
    architecture: image.source.architecture,
    source: sourceIdentity,
    cloudInit: image.cloudInit.map((fragment) => fragment.config as Json),
  }
  let chain = digestOf(start)
  const chained = (by: PlannedLayer['by']) => (layer: Layer) => {
    const identity = identityOfLayer(layer)
    chain = digestOf({ after: chain, layer: identity })
    return { layer, digest: chain, identity, by }
  }
  const layers = [
    ...(hardening.packages === undefined ? [] : [hardening.packages]).map(chained('hardening')),
    ...image.layers.map(chained('definition')),
    ...certificateLayers(image, certificates).map(chained('certificates')),
    ...hardening.layers.map(chained('hardening')),
  ]
  const result = {
    hardware: image.hardware as Json,
    ...(image.kind === 'lxc' && { unprivileged: image.unprivileged, features: image.features as Json }),
    template: template as Json,
    ...(hardening.atSeal !== '' && { atSeal: digestBytes(hardening.atSeal) }),
  }
  const digest = digestOf({ layers: chain, ...result })
  const checks = [...hardening.checks, ...image.checks]
  const { atSeal, left } = hardening
  const items = Object.fromEntries(
    hardening.applied.map(({ id, measures }) => [id, digestOf(measures as unknown as Json)]),
  )
  return { image, digest, start, layers, result, atSeal, certificates, checks, items, left }
}

function identityOfLayer(layer: Layer): Json {
  switch (layer.kind) {
    case 'packages':
      return { packages: { install: layer.install, remove: layer.remove, upgrade: layer.upgrade } }
    case 'file':
      return { file: layer.path, content: digestBytes(layer.content), mode: layer.mode, owner: layer.owner }
    case 'shell':
      // The names of secrets say what the script can see; their values and references do not belong here.
      return {
        shell: digestBytes(layer.script),
        user: layer.user,
        env: layer.env,
        secrets: Object.keys(layer.secrets).sort(),
      }
    case 'reboot':
      return { reboot: true }
  }
}

/** What is asked, not where it stands in the file. Checks are JSON, which an interface cannot say to the type checker. */
export function digestOfChecks(checks: readonly Check[]): Digest {
  return digestOf(checks.map(({ where: _, ...check }) => check) as unknown as Json)
}

/**
 * What a definition asks for, as one line of text. Two builds with the same request may still get different
 * bytes (`debian/13` moves on); a template's note holds both.
 */
export function sourceRequest(source: SourceSpec): string {
  switch (source.kind) {
    case 'release':
      return `release ${source.release} ${source.architecture}`
    case 'url':
      return `url ${source.checksum.algorithm}:${source.checksum.value} ${source.format}`
    case 'appliance':
      return `appliance ${source.appliance} ${source.architecture}`
    case 'bootstrap':
      return `bootstrap ${canonicalJson([source.distribution, source.suite, source.architecture, source.packages, source.mirror ?? null])}`
    case 'image':
      return `image ${source.image}`
  }
}
