import { ImagebuildError } from '../core/errors.ts'
import { Turns } from '../core/turns.ts'
import { type Identity, identities, type Role, roleOn } from '../plan/network.ts'
import { type AddressOutcome, holdAddresses } from '../pve/address-holds.ts'
import { type GuestCards, readCards } from '../pve/addresses.ts'
import type { Claim } from '../pve/claim-held.ts'
import { guestLabel } from '../pve/guest-ref.ts'
import type { Build } from './context.ts'
import { keptGuest } from './leftovers.ts'
import { probeAddress } from './probe.ts'

/** Lines of an error that says who has all addresses. */
const NAMED_AT_MOST = 12

/**
 * Who this build's guests are on the network: for each role the preferred pair of address and MAC, or the next one
 * that nobody has. Nobody has it: no guest of ours in the cluster, no guest by its configuration, nobody who answers
 * there. Call it before the guests are created and after what earlier runs of the image have left is removed; all
 * roles at once, or some later. With a pool, the addresses are this build's until its claim is released.
 * @throws ImagebuildError `busy` that says who has them
 */
export async function chooseIdentities<R extends Role>(
  build: Build,
  claim: Claim,
  roles: readonly R[],
): Promise<Record<R, Identity>> {
  const { place } = build
  const chosen =
    place.addresses === undefined
      ? await byDhcp(build, roles)
      : await fromPool(build, claim, roles, probeAddress)
  return Object.fromEntries(roles.map((role, index) => [role, chosen[index]])) as Record<R, Identity>
}

/** With a pool. `probe` asks whether somebody answers at an address now. */
export async function fromPool(
  build: Build,
  claim: Claim,
  roles: readonly Role[],
  probe: typeof probeAddress,
): Promise<Identity[]> {
  const { pve, signal } = build
  const wishes = roles.map((role) => [...candidates(build, role)])
  const macs = new Map(wishes.flat().map(({ address = '', mac }) => [address, mac]))
  const asked = new Map<string, Promise<Awaited<ReturnType<typeof probeAddress>>>>()
  const ask = (address: string) => {
    const answer = asked.get(address) ?? probe(address, signal)
    asked.set(address, answer)
    answer.catch(() => {})
    return answer
  }
  // Silence takes longest, so it is listened to from the beginning.
  for (const [first] of wishes) if (first?.address !== undefined) ask(first.address)
  const cards = await readCards(pve)
  const refuse = async (address: string) => {
    const mac = macs.get(address)
    const guest = cards.find((one) => one.addresses.includes(address) || one.macs.includes(mac ?? ''))
    if (guest !== undefined) return guest.label
    const answer = await ask(address)
    return answer && answerer(answer, cards)
  }
  const outcomes = await turnOf(claim).take(() =>
    holdAddresses(
      { pve, claim, signal, refuse },
      wishes.map((wish) => ({ addresses: wish.flatMap(({ address }) => address ?? []) })),
    ),
  )
  return outcomes.map((outcome, index) => {
    const taken = wishes[index]?.find(({ address }) => address === outcome.address)
    if (outcome.address === undefined || taken === undefined) throw noneLeft(build, outcome)
    tell(build, outcome)
    return taken
  })
}

const turns = new WeakMap<Claim, Turns>()

/** Builds of one image on several nodes write on one claim: each begins with what the one before it has taken. */
function turnOf(claim: Claim): Turns {
  const found = turns.get(claim) ?? new Turns()
  turns.set(claim, found)
  return found
}

function candidates(build: Build, role: Role): Generator<Identity> {
  const { namespace, image, place, beside } = build
  const who = { namespace, image: image.name, role: roleOn(role, beside), macPrefix: place.macPrefix }
  return identities(who, place.addresses)
}

function answerer(answer: { mac?: string; by: string }, cards: readonly GuestCards[]): string {
  if (answer.by === 'this machine') return 'the machine that imagebuild runs on'
  const guest = cards.find(({ macs }) => answer.mac !== undefined && macs.includes(answer.mac))
  if (guest !== undefined) return `${guest.label}, which answers there (${answer.by})`
  return answer.mac === undefined
    ? `somebody who answers there (${answer.by})`
    : `somebody with the MAC address ${answer.mac}, who answers there (${answer.by})`
}

function tell(build: Build, { address, passed }: AddressOutcome): void {
  if (passed.length === 0) return
  const used = passed.map((one) => `${one.address} is used by ${one.who}`)
  const message = `${used.join('; ')}: taking ${address}`
  build.emit({ type: 'info', image: build.image.name, message })
}

function noneLeft({ place }: Build, { passed }: AddressOutcome): ImagebuildError {
  const lines = passed.slice(0, NAMED_AT_MOST).map(({ address, who }) => `${address}: ${who}`)
  if (passed.length > NAMED_AT_MOST) lines.push(`and ${passed.length - NAMED_AT_MOST} more`)
  return new ImagebuildError({
    code: 'busy',
    what: `no address of target ${place.target} is free`,
    why: lines.join('\n'),
    next: 'wait for the other builds, run `imagebuild prune`, or widen `addresses` in imagebuild.yaml',
  })
}

/** By DHCP each role has one MAC, and nothing to move on to. */
async function byDhcp(build: Build, roles: readonly Role[]): Promise<Identity[]> {
  const { pve, place, namespace, image } = build
  const [kept, cards] = await Promise.all([keptGuest(pve, place, namespace, image.name), readCards(pve)])
  return roles.map((role) => {
    const [identity] = candidates(build, role)
    if (identity === undefined) throw new TypeError(`no identity for ${role}`)
    const other = cards.find(({ macs }) => macs.includes(identity.mac))
    if (other === undefined) return identity
    const isKept = other.guest.vmid === kept
    throw new ImagebuildError({
      code: 'busy',
      what: isKept
        ? `${guestLabel(other.guest)}, kept from a failed build of ${image.name}, has the MAC address that this build needs`
        : `${other.label} has ${identity.mac}, the MAC address that this build needs`,
      why: `target ${place.target} uses DHCP, and two guests with one MAC address would get one lease`,
      next: isKept
        ? 'imagebuild prune --kept, or give the target a pool of `addresses`'
        : 'give that guest another MAC address, or the target another `macPrefix`, or a pool of `addresses`',
    })
  })
}

/** Ends no sooner than the choice does: a claim must not be released while something is written on it. */
export function awaited(choosing: Promise<unknown>): AsyncDisposable {
  const settled = choosing.then(
    () => undefined,
    () => undefined,
  )
  return { [Symbol.asyncDispose]: () => settled }
}
