import { pauses } from '../core/pauses.ts'
import { sleep } from '../core/scope.ts'
import { type AddressHolder, addressHolders, addressTags, readAddressTags } from './addresses.ts'
import type { Claim } from './claim-held.ts'
import type { Pve } from './client.ts'

/**
 * Taking addresses so that no two builders ever have the same, although Proxmox has nothing that would give one to
 * one of them only. Every builder has a claim before it creates anything, and writes on it what it wants:
 *
 * 1. write `ib-wants-<address>` on the own claim
 * 2. only then look at the others
 * 3. somebody has the address: go on to the next. Somebody with a lower VMID wants it: leave it to them. Somebody
 *    with a higher VMID wants it: wait until they have left it, or have it. Nobody: write `ib-address-<address>`
 *
 * Of two builders that want one address, the one who wrote later sees the other in step 2. So at least one of them
 * does, and both know who gives way. Nobody waits for a lower VMID, so nobody waits in a circle.
 */

/** Milliseconds until somebody who wants an address, and neither takes nor leaves it, is taken to have it. */
const PATIENCE = 10_000
/** Milliseconds after which an address that somebody wants, and nothing else is left, counts as theirs. */
const LONGEST_PATIENCE = 3 * PATIENCE
const LOOK_AGAIN = 100

export interface AddressWish {
  /** in order of preference */
  addresses: readonly string[]
}

/** What became of a wish; `passed` says, in order, why the addresses before it were not taken. */
export interface AddressOutcome {
  /** missing: none of them could be had */
  address?: string
  passed: { address: string; who: string }[]
}

export interface HoldOptions {
  pve: Pve
  claim: Claim
  /** who else has this address, although no guest of ours does; undefined: nobody */
  refuse: (address: string) => Promise<string | undefined>
  signal: AbortSignal
}

/**
 * Takes one address for each wish, all of them different. They are held as long as the claim is; what it held before
 * it goes on holding.
 */
export async function holdAddresses(
  { pve, claim, refuse, signal }: HoldOptions,
  wishes: readonly AddressWish[],
): Promise<AddressOutcome[]> {
  const before = readAddressTags(claim.tags).addresses
  const seats = wishes.map(({ addresses }) => new Seat(addresses))
  const held = () => [...before, ...seats.flatMap(({ address }) => address ?? [])]
  const wants = () => seats.flatMap(({ wanted }) => wanted ?? [])
  const publish = () => claim.setTags(addressTags({ addresses: held(), wants: wants() }))
  const look = async () => (await addressHolders(pve)).filter(({ guest }) => guest.vmid !== claim.vmid)

  const started = pauses.running()
  let others = await look()
  for (;;) {
    signal.throwIfAborted()
    for (const seat of seats.filter(({ isOpen }) => isOpen)) {
      seat.chooseNext([...held(), ...wants()], others)
    }
    if (pauses.running() - started > LONGEST_PATIENCE) {
      for (const seat of seats.filter(({ isOpen }) => isOpen)) seat.giveUp()
    }
    const fresh = seats.filter(({ wanted, since }) => wanted !== undefined && since === undefined)
    const refused = await Promise.all(
      fresh.map(async (seat) => {
        const who = await refuse(seat.wanted as string)
        if (who === undefined) return false
        seat.pass(who)
        return true
      }),
    )
    if (refused.includes(true)) continue
    if (fresh.length > 0) {
      await publish()
      for (const seat of fresh) seat.since = pauses.running()
    } else if (seats.every(({ isSettled }) => isSettled)) return seats.map((seat) => seat.outcome)
    else await sleep(LOOK_AGAIN, signal)
    others = await look()
    let decided = false
    for (const seat of seats.filter(({ wanted }) => wanted !== undefined)) {
      if (seat.decide(claim.vmid, others)) decided = true
    }
    if (decided) await publish()
  }
}

/** One wish while it is being met. */
class Seat {
  address: string | undefined
  /** the address that the claim says it wants */
  wanted: string | undefined
  /** when the claim began to say so, by `pauses.running` */
  since: number | undefined
  readonly #candidates: readonly string[]
  /** addresses that cannot be had, and why */
  readonly #passed = new Map<string, string>()
  /** left to somebody with a lower VMID: they may not take it in the end */
  readonly #left = new Map<string, string>()
  #exhausted = false

  constructor(candidates: readonly string[]) {
    this.#candidates = candidates
  }

  get isOpen(): boolean {
    return this.address === undefined && this.wanted === undefined && !this.#exhausted
  }

  get isSettled(): boolean {
    return this.address !== undefined || this.#exhausted
  }

  get outcome(): AddressOutcome {
    const why = (address: string) => this.#passed.get(address) ?? this.#left.get(address)
    const passed: AddressOutcome['passed'] = []
    for (const address of this.#candidates) {
      if (address === this.address) return { address, passed }
      const who = why(address)
      if (who !== undefined) passed.push({ address, who })
    }
    return { passed }
  }

  /** Wants the first address that nobody has or wants. */
  chooseNext(own: readonly string[], others: readonly AddressHolder[]): void {
    let mayComeFree = false
    for (const address of this.#candidates) {
      if (this.#passed.has(address) || own.includes(address)) continue
      const holder = others.find(({ addresses }) => addresses.includes(address))
      const rival = others.find((other) => other.wants.includes(address))
      if (holder !== undefined) this.#passed.set(address, holderName(holder))
      else if (rival !== undefined) {
        this.#left.set(address, holderName(rival))
        mayComeFree = true
      } else {
        this.wanted = address
        this.since = undefined
        return
      }
    }
    this.#exhausted = !mayComeFree
  }

  giveUp(): void {
    this.#exhausted = true
  }

  pass(who: string): void {
    if (this.wanted !== undefined) this.#passed.set(this.wanted, who)
    this.wanted = undefined
  }

  /** @returns whether what the claim says of it must change */
  decide(own: number, others: readonly AddressHolder[]): boolean {
    const address = this.wanted as string
    const holder = others.find(({ addresses }) => addresses.includes(address))
    const rivals = others.filter((other) => other.wants.includes(address))
    const lower = rivals.find(({ guest }) => guest.vmid < own)
    const impatient = pauses.running() - (this.since ?? 0) > PATIENCE ? rivals[0] : undefined
    if (holder !== undefined) this.pass(holderName(holder))
    else if (lower !== undefined) {
      this.#left.set(address, holderName(lower))
      this.wanted = undefined
    } else if (impatient !== undefined) this.pass(holderName(impatient))
    else if (rivals.length === 0) {
      this.address = address
      this.wanted = undefined
    } else return false
    return true
  }
}

function holderName({ label, marks }: AddressHolder): string {
  return marks.state === 'claim' ? `a build of ${marks.image} (namespace ${marks.namespace})` : label
}
