import type { Caller } from '../access.ts'
import { permissionError } from '../errors.ts'
import { splitList } from '../formats.ts'
import type { Call, Lab } from '../router.ts'

/** Which tags a user may set and take off, and how they are stored. */

/**
 * At the create of a VM, Proxmox VE 9.2 hands over an empty hash where the tags before belong: to what compares the two
 * that is a tag which goes.
 */
export const TAGS_OF_A_NEW_MACHINE = 'HASH(0x5616e1c4a2d8)'

/** Proxmox stores tags sorted, in lower case, once each. */
export function normalTags(tags: string): string {
  return [...new Set(splitList(tags.toLowerCase()))].sort().join(';')
}

/** @throws ApiError 403 without VM.Config.Options, or where a tag that comes or goes is not the caller's to change */
export async function checkTags(call: Call, before: string, after: string): Promise<void> {
  const { lab, caller, vmid } = call
  call.require(`/vms/${vmid}`, ['VM.Config.Options'])
  const changed = changedTags(splitList(before), splitList(after))
  if (changed.length === 0 || lab.access.allowed(caller, '/', ['Sys.Modify'])) return
  const { allow, registered } = await lab.datacenter.tags()
  const allowed = new Set(await allowedTags(lab, caller))
  const refused = changed.find((tag) => registered.includes(tag) || (allow !== 'free' && !allowed.has(tag)))
  if (refused !== undefined) throw permissionError(`/, Sys.Modify for modifying tag '${refused}'`)
}

/** Those that are there more or less often than before; new ones first. */
function changedTags(before: readonly string[], after: readonly string[]): string[] {
  const count = (tags: readonly string[], tag: string) => tags.filter((other) => other === tag).length
  return [...new Set([...after, ...before])].filter((tag) => count(before, tag) !== count(after, tag))
}

/** What the caller is told to choose from: more than that is allowed where tags are free. */
export async function allowedTags(lab: Lab, caller: Caller): Promise<string[]> {
  const { allow, list, registered } = await lab.datacenter.tags()
  const mayModify = lab.access.allowed(caller, '/', ['Sys.Modify'])
  const allowed = new Set<string>(allow === 'none' && !mayModify ? [] : list)
  if (allow === 'free' || allow === 'existing' || mayModify) {
    const visible = lab.access.allowedGuests(caller, ['VM.Audit'])
    for (const { vmid, config } of lab.guests.everywhere()) {
      if (!mayModify && !visible(vmid)) continue
      for (const tag of splitList(String(config.tags ?? ''))) allowed.add(tag)
    }
  }
  for (const tag of registered) {
    if (mayModify) allowed.add(tag)
    else allowed.delete(tag)
  }
  return [...allowed].sort()
}
