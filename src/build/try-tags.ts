import type { ImageSpec } from '../definition/spec.ts'
import type { Claim } from '../pve/claim-held.ts'
import { FIXED_TAGS } from '../pve/marks.ts'

/**
 * Gives the claim the tags that the guests of a build will have, and takes them off again. Where datacenter.cfg restricts
 * tags, Proxmox refuses that now, before anything is uploaded, and not at the end of a build. Proxmox cannot be asked for its
 * rules: a token without `Sys.Audit` on `/` does not get the registered tags. Up to Proxmox VE 9.1 the claim's own tags prove
 * nothing: it creates a virtual machine with any tags.
 * @throws PveError `permission_denied`
 */
export async function tryTags(claim: Claim, { template }: Pick<ImageSpec, 'template'>): Promise<void> {
  await claim.setTags([...FIXED_TAGS, ...template.tags])
  await claim.setTags([])
}
