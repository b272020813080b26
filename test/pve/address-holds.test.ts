import { readFile } from 'node:fs/promises'
import { execa } from 'execa'
import { describe, expect, test, vi } from 'vitest'
import { type AddressOutcome, holdAddresses } from '../../src/pve/address-holds.ts'
import { addressHolders, addressTags, readAddressTags } from '../../src/pve/addresses.ts'
import { claimImage } from '../../src/pve/claim.ts'
import type { Claim } from '../../src/pve/claim-held.ts'
import { ClaimLost } from '../../src/pve/claim-refused.ts'
import { fromTags, type Note, parseNote, renderNote, toTags } from '../../src/pve/marks.ts'
import { thisOwner } from '../../src/pve/owner.ts'
import { pause, watched } from '../core/paused.ts'
import { type MemoryGuest, MemoryProxmox, PLACE, past, SOMEBODY, soon } from './memory-proxmox.ts'

const signal = new AbortController().signal
const nobodyElse = async () => undefined
const pool = (count: number) => Array.from({ length: count }, (_, index) => `192.0.2.${100 + index}`)
const from = (addresses: string[], start: number) => [...addresses.slice(start), ...addresses.slice(0, start)]

async function claim(pve: MemoryProxmox, image: string, slot: number, node = 'pve'): Promise<Claim> {
  return await claimImage(pve.client(), {
    place: { ...PLACE, node, vmids: { ...PLACE.vmids, claims: { first: 9900, last: 9949 } } },
    namespace: 'homelab',
    image,
    run: image,
    owner: SOMEBODY,
    tool: '0',
    slot,
    emit: () => {},
    signal,
    onLost: () => {},
  })
}

/** The same numbers for the same seed (mulberry32). */
function random(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

/** Addresses that two guests hold at this moment. */
function heldTwice(pve: MemoryProxmox): string[] {
  const all = [...pve.guests.keys()].flatMap((vmid) => readAddressTags(pve.tagsOf(vmid)).addresses)
  return all.filter((address, index) => all.indexOf(address) !== index)
}

/** A Proxmox whose calls take, before and after, as long as chance has it. */
function disorderly(seed: number) {
  const pve = new MemoryProxmox()
  const chance = random(seed)
  const dawdle = async () => {
    for (let turns = Math.floor(chance() * 8); turns > 0; turns -= 1) await new Promise(setImmediate)
  }
  const collisions: string[] = []
  pve.before = dawdle
  pve.after = async () => {
    collisions.push(...heldTwice(pve))
    await dawdle()
  }
  return { pve, chance, collisions }
}

const BUILDERS = 8
const SEEDS = Array.from({ length: 40 }, (_, seed) => seed)

describe('many builders at once, whatever the order of their calls', () => {
  test('never take one address twice, and each gets what it needs from a pool that is just large enough', async () => {
    const runs = SEEDS.map(async (seed) => {
      const { pve, chance, collisions } = disorderly(seed)
      const addresses = pool(BUILDERS * 3)
      const outcomes = await Promise.all(
        Array.from({ length: BUILDERS }, async (_, index) => {
          const own = await claim(pve, `image-${index}`, (index * 7) % 50, index % 3 === 0 ? 'pve2' : 'pve')
          // Few starting points, so that nearly all meet.
          const wishes = [0, 1, 2].map(() => ({ addresses: from(addresses, Math.floor(chance() * 3)) }))
          return await holdAddresses({ pve: pve.client(), claim: own, refuse: nobodyElse, signal }, wishes)
        }),
      )
      const taken = outcomes.flat().map(({ address }) => address)
      expect([...taken].sort(), `seed ${seed}`).toEqual([...addresses].sort())
      expect(collisions, `seed ${seed}`).toEqual([])
      // What was told is what the cluster shows, and nobody wants anything any more.
      const holders = await addressHolders(pve.client())
      expect(holders.flatMap((holder) => holder.addresses).sort()).toEqual([...addresses].sort())
      expect(holders.flatMap(({ wants }) => wants)).toEqual([])
    })
    await Promise.all(runs)
  })

  test('from a pool that is too small, no address goes twice, none is left, and who gets none is told why', async () => {
    const runs = SEEDS.slice(0, 10).map(async (seed) => {
      const { pve, collisions } = disorderly(seed)
      const addresses = pool(5)
      const outcomes = await Promise.all(
        Array.from({ length: BUILDERS }, async (_, index) => {
          const own = await claim(pve, `image-${index}`, index)
          const [outcome] = await holdAddresses(
            { pve: pve.client(), claim: own, refuse: nobodyElse, signal },
            [{ addresses }],
          )
          return outcome as AddressOutcome
        }),
      )
      const taken = outcomes.flatMap(({ address }) => address ?? [])
      expect([...taken].sort()).toEqual(addresses)
      expect(collisions).toEqual([])
      for (const { address, passed } of outcomes)
        if (address === undefined) expect(passed.map((one) => one.address)).toEqual(addresses)
    })
    await Promise.all(runs)
  })

  test('the same builders collide when they look first and write afterwards', async () => {
    const runs = SEEDS.slice(0, 10).map(async (seed) => {
      const { pve } = disorderly(seed)
      await Promise.all(
        Array.from({ length: BUILDERS }, async (_, index) => {
          const own = await claim(pve, `image-${index}`, index)
          const held = (await addressHolders(pve.client())).flatMap(({ addresses }) => addresses)
          const free = pool(24).filter((address) => !held.includes(address))
          await own.setTags(addressTags({ addresses: free.slice(0, 1), wants: [] }))
        }),
      )
      return heldTwice(pve).length
    })
    expect((await Promise.all(runs)).filter((count) => count > 0)).not.toEqual([])
  })
})

describe('one builder', () => {
  const hold = (pve: MemoryProxmox, own: Claim, wishes: string[][], refuse = nobodyElse as never) =>
    holdAddresses(
      { pve: pve.client(), claim: own, refuse, signal },
      wishes.map((addresses) => ({ addresses })),
    )
  const rival = (pve: MemoryProxmox, vmid: number, extra: string[], expires = soon()) =>
    pve.put(vmid, {
      tags: toTags({ vmid, namespace: 'other', image: 'db', state: 'claim', expires }, extra),
    })

  test('gets what it prefers, a different one for each wish, as long as its claim is there', async () => {
    const pve = new MemoryProxmox()
    {
      await using own = await claim(pve, 'web', 5)
      const outcomes = await hold(pve, own, [pool(3), pool(3)])
      expect(outcomes).toEqual([
        { address: '192.0.2.100', passed: [] },
        { address: '192.0.2.101', passed: [] },
      ])
      expect(pve.tagsOf(9905)).toEqual(
        expect.arrayContaining(['ib-claim', 'ib-address-192.0.2.100', 'ib-address-192.0.2.101']),
      )
      expect(fromTags(9905, pve.tagsOf(9905).join(';'))).toMatchObject({ state: 'claim', image: 'web' })
    }
    expect(await addressHolders(pve.client())).toEqual([])
  })

  test('keeps what it has when it asks for more', async () => {
    const pve = new MemoryProxmox()
    const own = await claim(pve, 'web', 5)
    await hold(pve, own, [pool(3)])
    expect(await hold(pve, own, [pool(3)])).toMatchObject([{ address: '192.0.2.101' }])
    expect(readAddressTags(pve.tagsOf(9905)).addresses).toEqual(['192.0.2.100', '192.0.2.101'])
  })

  test('passes by whoever has an address, and says who', async () => {
    const pve = new MemoryProxmox()
    const own = await claim(pve, 'web', 5)
    rival(pve, 9930, ['ib-address-192.0.2.100'])
    const marks = { vmid: 9004, namespace: 'homelab', image: 'db', state: 'kept' } as const
    const tags = toTags({ ...marks, address: '192.0.2.101' })
    pve.put(9004, { name: 'ib-build-db', tags }, { node: 'pve2', kind: 'lxc' })
    const [outcome] = await hold(pve, own, [pool(4)], (async (address: string) =>
      address === '192.0.2.102' ? 'VM 104 (printer)' : undefined) as never)
    expect(outcome).toEqual({
      address: '192.0.2.103',
      passed: [
        { address: '192.0.2.100', who: 'a build of db (namespace other)' },
        { address: '192.0.2.101', who: 'CT 9004 (ib-build-db)' },
        { address: '192.0.2.102', who: 'VM 104 (printer)' },
      ],
    })
  })

  test('is kept from an address by a claim that has expired, while its process lives on this machine', async () => {
    const pve = new MemoryProxmox()
    const own = await claim(pve, 'web', 5)
    const child = execa('sleep', ['60'], { reject: false })
    const started = (await readFile(`/proc/${child.pid}/stat`, 'utf8')).split(' ')[21] as string
    const owner = { ...(await thisOwner()), pid: child.pid as number, started }
    const asleep = { vmid: 9930, namespace: 'other', image: 'db' } as const
    const description = renderNote({
      schema: 1,
      ...asleep,
      kind: 'vm',
      tool: '0',
      run: 'r',
      owner,
      expires: past(),
    })
    Object.assign(rival(pve, 9930, ['ib-address-192.0.2.100'], past()).config, { description })
    expect(await hold(pve, own, [pool(2)])).toMatchObject([{ address: '192.0.2.101' }])
    child.kill('SIGKILL')
    await child
    await own.setTags([])
    expect(await hold(pve, own, [pool(2)])).toMatchObject([{ address: '192.0.2.100' }])
  })

  test('is not kept from an address by a claim that nobody renews, nor by a clone’s inherited tags', async () => {
    const pve = new MemoryProxmox()
    const own = await claim(pve, 'web', 5)
    rival(pve, 9930, ['ib-address-192.0.2.100'], past())
    pve.put(500, {
      tags: toTags({
        vmid: 9,
        namespace: 'homelab',
        image: 'web',
        state: 'building',
        address: '192.0.2.100',
      }),
    })
    expect(await hold(pve, own, [pool(2)])).toMatchObject([{ address: '192.0.2.100' }])
  })

  test('leaves an address to who has a lower VMID and wants it', async () => {
    const pve = new MemoryProxmox()
    const own = await claim(pve, 'web', 5)
    // They begin to want it only after we have looked for the first time.
    pve.after = (call) => {
      if (call.startsWith('PUT')) rival(pve, 9901, ['ib-wants-192.0.2.100'])
    }
    expect(await hold(pve, own, [pool(2)])).toMatchObject([{ address: '192.0.2.101' }])
  })

  test.each([
    ['takes it when they go on to another', ['ib-address-192.0.2.107'], '192.0.2.100'],
    ['goes on when they have it', ['ib-address-192.0.2.100'], '192.0.2.101'],
  ])('waits for who has a higher VMID and wants an address: %s', async (_, decision, address) => {
    const pve = new MemoryProxmox()
    const own = await claim(pve, 'web', 5)
    let looks = 0
    pve.after = (call) => {
      if (call.startsWith('PUT') && looks === 0) rival(pve, 9930, ['ib-wants-192.0.2.100'])
      if (call === 'GET /nodes' && pve.guests.has(9930)) looks += 1
      if (looks === 3) rival(pve, 9930, decision)
    }
    expect(await hold(pve, own, [pool(2)])).toMatchObject([{ address }])
    expect(looks).toBeGreaterThanOrEqual(3)
  })

  test('loses no patience by a pause of this process', async () => {
    const pve = new MemoryProxmox()
    const own = await claim(pve, 'web', 5)
    using _watching = watched()
    let looks = 0
    const later = soon() + 3600
    pve.after = (call) => {
      if (call.startsWith('PUT') && looks === 0) rival(pve, 9930, ['ib-wants-192.0.2.100'], later)
      if (call === 'GET /nodes' && pve.guests.has(9930)) looks += 1
      if (looks === 2) pause('stopped', 600)
      if (looks === 4) rival(pve, 9930, ['ib-address-192.0.2.107'], later)
    }
    const holding = hold(pve, own, [pool(1)])
    expect(await holding.finally(() => vi.restoreAllMocks())).toMatchObject([{ address: '192.0.2.100' }])
  })

  test('learns that its claim was lost', async () => {
    const pve = new MemoryProxmox()
    const own = await claim(pve, 'web', 5)
    const { config } = pve.guests.get(9905) as MemoryGuest
    config.description = renderNote({
      ...(parseNote(9905, String(config.description)) as Note),
      run: 'thief',
    })
    await expect(hold(pve, own, [pool(2)])).rejects.toBeInstanceOf(ClaimLost)
  })
})
