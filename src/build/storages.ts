import { ImagebuildError } from '../core/errors.ts'
import type { ImageSpec } from '../definition/spec.ts'
import type { StorageStatus } from '../pve/answers.ts'
import type { Pve } from '../pve/client.ts'
import { PveError } from '../pve/errors.ts'
import type { Place } from '../pve/place.ts'

/**
 * Whether the target's storages take what a build puts there, asked before anything is uploaded. Proxmox has
 * `import` switched off by default, and would say so only after the whole image has come.
 * @throws ImagebuildError `definition_invalid` that lists all that is wrong
 */
export async function requireStorages(pve: Pve, image: ImageSpec, place: Place): Promise<void> {
  const { node, target, storages } = place
  const wanted = new Map<string, string[]>()
  for (const [storage, content] of contents(image, storages)) {
    wanted.set(storage, [...(wanted.get(storage) ?? []), content])
  }
  const wrong: string[] = []
  const commands: string[] = []
  await Promise.all(
    [...wanted].map(async ([storage, contents]) => {
      const status = await storageStatus(pve, node, storage)
      if (status === undefined) {
        wrong.push(`there is no storage ${storage} on ${node}`)
        return
      }
      if (!status.enabled || !status.active)
        wrong.push(`storage ${storage} is ${status.enabled ? 'not active' : 'disabled'} on ${node}`)
      const has = status.content.split(',')
      const missing = contents.filter((content) => !has.includes(content))
      if (missing.length === 0) return
      wrong.push(`storage ${storage} takes no ${missing.join(' and no ')} content (it has ${has.join(', ')})`)
      if (
        holdsFiles(status.type) ||
        !missing.some((content) => content !== 'images' && content !== 'rootdir')
      )
        commands.push(`pvesm set ${storage} --content ${[...has, ...missing].join(',')}`)
    }),
  )
  if (wrong.length === 0) return
  throw new ImagebuildError({
    code: 'definition_invalid',
    what: `the storages of target ${target} cannot be built on`,
    why: wrong.join('\n'),
    next: [
      ...(commands.length > 0 ? [`on ${node}, as root: ${commands.join('; ')}`] : []),
      `${commands.length > 0 ? 'or ' : ''}name other storages in imagebuild.yaml`,
    ].join('\n'),
  })
}

function contents({ kind }: ImageSpec, storages: Place['storages']): readonly [string, string][] {
  return kind === 'vm'
    ? [
        [storages.disks, 'images'],
        [storages.images, 'import'],
        [storages.images, 'iso'],
      ]
    : [
        [storages.disks, 'rootdir'],
        [storages.archives, 'vztmpl'],
      ]
}

/** Types of storage that hold volumes and nothing else: no content type makes a file fit on them. */
function holdsFiles(type: string): boolean {
  return !['lvm', 'lvmthin', 'zfspool', 'zfs', 'rbd', 'iscsi', 'iscsidirect'].includes(type)
}

/** Undefined where the node does not know such a storage. */
export async function storageStatus(
  pve: Pve,
  node: string,
  storage: string,
): Promise<StorageStatus | undefined> {
  try {
    return await pve.api.nodes.$(node).storage.$(storage).status.$get()
  } catch (error) {
    if (error instanceof PveError && error.status === 400 && error.fields.storage !== undefined)
      return undefined
    throw error
  }
}
