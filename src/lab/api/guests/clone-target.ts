import { failure } from '../errors.ts'
import { type Call, findStorage, type Lab } from '../router.ts'
import { storageOf } from './drives.ts'

/**
 * The node that a clone shall live on. Another one than its source's must see all that the clone needs: its own
 * volumes and, with `storage`, the place of the copies.
 * @throws ApiError 500 in Proxmox's words
 */
export function cloneTarget(call: Call, volids: readonly string[], word: 'VM' | 'CT'): Lab {
  const { lab } = call
  const name = call.text('target') ?? lab.node
  const there = lab.nodes.get(name)
  if (there === undefined) throw failure(`no such cluster node '${name}'`)
  if (name === lab.node) return lab
  const storage = call.text('storage')
  if (storage !== undefined && !findStorage(lab, storage).shared) {
    throw failure(`can't clone to non-shared storage '${storage}'`)
  }
  if (!volids.every((volid) => findStorage(lab, storageOf(volid)).shared)) {
    throw failure(`can't clone ${word} to node '${name}' (${word} uses local storage)`)
  }
  return there
}
