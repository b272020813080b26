import { ImagebuildError } from '../core/errors.ts'
import type { ImageSpec } from '../definition/spec.ts'
import type { Pve } from '../pve/client.ts'
import { PveError } from '../pve/errors.ts'
import type { Place } from '../pve/place.ts'

type Architecture = ImageSpec['source']['architecture']

/**
 * Whether a node has the architecture of the image. Proxmox would create the guest all the same, and it would never
 * answer; another `arch` than the node's is for root@pam by password alone, and emulated.
 * @throws ImagebuildError `definition_invalid`
 */
export async function requireArchitecture(pve: Pve, image: ImageSpec, { node }: Place): Promise<void> {
  const { architecture, where } = image.source
  const own = await architectureOf(pve, node)
  if (own === undefined || own === architecture) return
  throw new ImagebuildError({
    code: 'definition_invalid',
    what: `${image.name} is for ${architecture}, and the node ${node} is ${own}`,
    where,
    why: `a processor of ${own} runs nothing that is made for ${architecture}`,
    next: `write \`architecture: ${own}\` in its source, or name a node with ${architecture} in the target`,
  })
}

/**
 * By the machine types of the node's QEMU, which every token may ask for; its status has the name of the architecture, and
 * needs Sys.Audit. Undefined where the node does not tell.
 */
async function architectureOf(pve: Pve, node: string): Promise<Architecture | undefined> {
  try {
    const types = await pve.api.nodes.$(node).capabilities.qemu.machines.$get()
    if (types.some(({ id }) => id.startsWith('pc-'))) return 'amd64'
    return types.some(({ id }) => id.startsWith('virt')) ? 'arm64' : undefined
  } catch (error) {
    if (error instanceof PveError && error.delivery === 'answered') return undefined
    throw error
  }
}
