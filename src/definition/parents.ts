import type { Diagnostic } from './diagnostics.ts'
import type { ImageKind } from './image-schema.ts'
import { kindOf } from './kind.ts'
import type { Architecture } from './source-schema.ts'
import type { YamlFile } from './yaml-file.ts'

export interface Member {
  yaml: YamlFile
  parent?: string
}

/** Every circle of images that are each other's parents, told once, at the first of its images by name. */
export function findCycles(images: ReadonlyMap<string, Member>): Diagnostic[] {
  const told = new Set<string>()
  const found: Diagnostic[] = []
  for (const start of [...images.keys()].sort()) {
    const way: string[] = []
    let current: string | undefined = start
    while (current !== undefined && !way.includes(current)) {
      way.push(current)
      current = images.get(current)?.parent
    }
    if (current !== start || told.has(start)) continue
    for (const name of way) told.add(name)
    const yaml = images.get(start)?.yaml
    if (!yaml) continue
    const circle = [...way, start].join(' → ')
    found.push(
      yaml.diagnostic(yaml.at(['source', 'image']), `an image cannot be built from itself: ${circle}`),
    )
  }
  return found
}

/** Images that claim another architecture than the image they start from. */
export function findForeignParents(images: ReadonlyMap<string, Member>): Diagnostic[] {
  const found: Diagnostic[] = []
  for (const [name, { yaml, parent }] of images) {
    const base = parent === undefined ? undefined : images.get(parent)
    if (!base) continue
    const [own, theirs] = [architectureOf(yaml), architectureOf(base.yaml)]
    if (own === undefined || theirs === undefined || own === theirs) continue
    const written = yaml.has(['source', 'architecture'])
    const span = yaml.at(written ? ['source', 'architecture'] : ['source', 'image'])
    const message = `\`${parent}\` is ${theirs}, and \`${name}\` would be ${own}`
    found.push(yaml.diagnostic(span, message, `write \`architecture: ${theirs}\``))
  }
  return found
}

/**
 * Images that cannot be made of the image they start from: a container is created from its parent's archive (a
 * clone of a container cannot be given a key), a virtual machine from its parent's disk.
 */
export function findUnfitParents(images: ReadonlyMap<string, Member>): Diagnostic[] {
  const found: Diagnostic[] = []
  for (const [name, { yaml, parent }] of images) {
    const base = parent === undefined ? undefined : images.get(parent)
    if (!base || base.yaml.value === undefined) continue
    const complain = (message: string, hint: string) =>
      found.push(yaml.diagnostic(yaml.at(['source', 'image']), message, hint))
    const [own, theirs] = [kindOf(yaml.value).kind, kindOf(base.yaml.value).kind]
    if (own !== theirs) {
      complain(
        `\`${parent}\` is ${AS_WORDS[theirs]}, and \`${name}\` ${AS_WORDS[own]}`,
        `start from an image with \`kind: ${own}\``,
      )
    } else if (isPostQuantum(base.yaml)) {
      complain(
        `nobody can build on \`${parent}\`: its sshd offers post-quantum key exchange alone, which imagebuild’s client lacks`,
        `leave \`hardening.postQuantum\` to the images at the end, and out of images/${parent}/image.yaml`,
      )
    } else if (own === 'lxc' && !keepsArchive(base.yaml)) {
      complain(
        `\`${parent}\` keeps no archive, and a container starts from its parent’s archive`,
        `write \`template: { archive: true }\` in images/${parent}/image.yaml`,
      )
    } else if (own === 'lxc' && yaml.has(['cloudInit'])) {
      const message = `\`cloudInit\` cannot be applied to a container that starts from \`${parent}\``
      const hint = `its archive is on the node already, and cannot be given a seed: put the fragments into ${parent}, or use layers`
      found.push(yaml.diagnostic(yaml.at(['cloudInit']), message, hint))
    }
  }
  return found
}

const AS_WORDS: Readonly<Record<ImageKind, string>> = {
  vm: 'a virtual machine',
  lxc: 'a container',
}

function keepsArchive(yaml: YamlFile): boolean {
  const { template } = (yaml.value ?? {}) as { template?: { archive?: unknown } | null }
  return template?.archive === true
}

function isPostQuantum(yaml: YamlFile): boolean {
  const { hardening } = (yaml.value ?? {}) as {
    hardening?: { profile?: unknown; postQuantum?: unknown } | null
  }
  return hardening?.postQuantum === true && hardening.profile !== 'none'
}

function architectureOf(yaml: YamlFile): Architecture | undefined {
  const written = (yaml.value as { source?: { architecture?: unknown } } | null | undefined)?.source
  const architecture = written?.architecture ?? 'amd64'
  return architecture === 'amd64' || architecture === 'arm64' ? architecture : undefined
}
