import { ImagebuildError } from '../core/errors.ts'
import { type Identity, identities } from '../plan/network.ts'
import type { Build } from './context.ts'
import { busyAddresses, keptGuest } from './leftovers.ts'

/** The first pair of MAC and address that no guest of ours occupies. By DHCP there is only one. */
export async function chooseIdentity({ pve, image, place, namespace }: Build): Promise<Identity> {
  const kept = place.addresses === undefined && (await keptGuest(pve, place, namespace, image.name))
  if (kept) {
    throw new ImagebuildError({
      code: 'busy',
      what: `VM ${kept}, kept from a failed build of ${image.name}, has the MAC address that this build needs`,
      why: `target ${place.target} uses DHCP, and two guests with one MAC address would get one lease`,
      next: 'imagebuild prune --kept, or give the target a pool of `addresses`',
    })
  }
  const busy = await busyAddresses(pve, place.node)
  const who = { namespace, image: image.name, role: 'build', macPrefix: place.macPrefix } as const
  for (const identity of identities(who, place.addresses)) {
    if (identity.address === undefined || !busy.has(identity.address)) return identity
  }
  throw new ImagebuildError({
    code: 'busy',
    what: `all addresses of target ${place.target} are in use by other builds`,
    next: 'wait for them, run `imagebuild prune`, or widen `addresses` in imagebuild.yaml',
  })
}
