import { afterAll, beforeAll, expect, test } from 'vitest'
import { holdAddresses } from '../../src/pve/address-holds.ts'
import { addressHolders, cardsOf, readCards } from '../../src/pve/addresses.ts'
import { claimImage } from '../../src/pve/claim.ts'
import { connect, type Pve } from '../../src/pve/client.ts'
import { destroyGuest } from '../../src/pve/destroy.ts'
import { ownPool } from './own.ts'
import { startTarget, type Target } from './target.ts'

/** Builders that begin at the same moment, over the wire: tags are there as soon as their call has been answered. */

const BUILDERS = 6
const signal = AbortSignal.timeout(600_000)
let target: Target
let pve: Pve
let first: number

beforeAll(async () => {
  target = await startTarget()
  const { base, fingerprint, credentials } = target.client
  pve = await connect({
    endpoint: base,
    auth: { kind: 'token', token: credentials.token ?? '' },
    tls: { fingerprint },
    signal,
  })
  first = await target.vmid()
})
afterAll(async () => {
  await pve?.[Symbol.asyncDispose]()
  await target?.stop()
})

test('they never take one address twice, and each gets what it needs', async () => {
  const addresses = Array.from({ length: BUILDERS * 2 }, (_, index) => `192.0.2.${100 + index}`)
  await using claims = new AsyncDisposableStack()
  const outcomes = await Promise.all(
    Array.from({ length: BUILDERS }, async (_, slot) => {
      const claim = await claimImage(pve, {
        place: {
          target: 'contract',
          node: target.node,
          storages: { disks: target.files, images: target.files, archives: target.files },
          bridge: target.bridge,
          pool: ownPool(target.own),
          vmids: { templates: { first, last: first }, claims: { first: first + 1, last: first + BUILDERS } },
          macPrefix: '02:1b',
          dns: [],
          ssh: { authorities: [] },
        },
        namespace: target.own.namespace,
        image: `image-${slot}`,
        run: `run-${slot}`,
        owner: { host: 'elsewhere.example', boot: 'b', pid: 1, started: '1' },
        tool: '0',
        slot,
        emit: () => {},
        signal,
        onLost: () => {},
      })
      claims.use(claim)
      const wish = { addresses }
      return await holdAddresses({ pve, claim, refuse: async () => undefined, signal }, [wish, wish])
    }),
  )
  expect(
    outcomes
      .flat()
      .map(({ address }) => address)
      .sort(),
  ).toEqual([...addresses].sort())
  const ours = (await addressHolders(pve)).filter(({ marks }) => marks.namespace === target.own.namespace)
  expect(ours.flatMap((holder) => holder.addresses).sort()).toEqual([...addresses].sort())
  expect(ours.flatMap(({ wants }) => wants)).toEqual([])
})

test('what a guest’s configuration says of its cards is read as it was written', async () => {
  const vmid = first + BUILDERS + 1
  const created = (await pve.api.nodes.$(target.node).qemu.$post({
    vmid,
    name: 'cards',
    pool: ownPool(target.own),
    net0: `virtio=BC:24:11:AA:BB:01,bridge=${target.bridge}`,
    ipconfig0: 'ip=192.0.2.10/24,gw=192.0.2.1',
  } as never)) as string
  await pve.waitTask(created, { seconds: 60, signal })
  try {
    const cards = (await readCards(pve)).find(({ guest }) => guest.vmid === vmid)
    expect(cards).toMatchObject({ macs: ['BC:24:11:AA:BB:01'], addresses: ['192.0.2.10'] })
  } finally {
    await destroyGuest(pve, { kind: 'vm', node: target.node, vmid, signal })
  }
})

test('containers say it in one line', () => {
  const net0 =
    'name=eth0,bridge=vmbr0,gw=10.77.0.1,hwaddr=bc:24:11:aa:bb:30,ip=10.77.0.30/24,ip6=auto,type=veth'
  expect(cardsOf({ digest: '', net0, net1: 'name=eth1,ip=dhcp' })).toEqual({
    macs: ['BC:24:11:AA:BB:30'],
    addresses: ['10.77.0.30'],
  })
})
