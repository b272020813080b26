import { describe, expect, test } from 'vitest'
import { chooseIdentities, fromPool } from '../../src/build/identity.ts'
import type { Answer } from '../../src/build/probe.ts'
import { identities, type Role } from '../../src/plan/network.ts'
import { readAddressTags } from '../../src/pve/addresses.ts'
import { claimImage } from '../../src/pve/claim.ts'
import { renderNote, toTags } from '../../src/pve/marks.ts'
import { MemoryProxmox, PLACE, refused, SOMEBODY, soon } from '../pve/memory-proxmox.ts'
import { aBuild } from './world.ts'

const ADDRESSES = { first: '192.0.2.100', last: '192.0.2.109', prefix: 24, gateway: '192.0.2.1' }
const POOLED = { ...PLACE, addresses: ADDRESSES }
const ROLES = ['build', 'verify-a', 'verify-b'] as const

const order = (role: Role = 'build') => [
  ...identities({ namespace: 'homelab', image: aBuild().image.name, role, macPrefix: '02:1b' }, ADDRESSES),
]

async function world(pve = new MemoryProxmox(), place = POOLED) {
  const build = aBuild({ place }, pve)
  const claim = await claimImage(build.pve, { ...build, image: build.image.name, slot: 0, onLost: () => {} })
  return { pve, build, claim }
}

const silence = async () => undefined
const infos = (build: ReturnType<typeof aBuild>) =>
  build.events.flatMap((event) => (event.type === 'info' ? [event.message] : []))

describe('with a pool', () => {
  test('each role gets the pair that it prefers, and the claim holds the addresses', async () => {
    const { pve, build, claim } = await world()
    const chosen = await fromPool(build, claim, ['build'], silence)
    expect(chosen).toEqual([order()[0]])
    expect(infos(build)).toEqual([])
    expect(readAddressTags(pve.tagsOf(claim.vmid)).addresses).toEqual([order()[0]?.address])
  })

  test('roles of one image always differ, asked for together or one after the other', async () => {
    const { build, claim } = await world()
    const [first] = await fromPool(build, claim, ['build'], silence)
    const others = await fromPool(build, claim, ['verify-a', 'verify-b'], silence)
    const all = [first, ...others].map((identity) => identity?.address)
    expect(new Set(all).size).toBe(3)
    const together = await world()
    const three = await fromPool(together.build, together.claim, ROLES, silence)
    expect(new Set(three.map(({ mac }) => mac)).size).toBe(3)
  })

  test('builds on several nodes share a claim: asked for at once, all differ, and all are held', async () => {
    const { pve, build, claim } = await world()
    const beside = { ...build, place: { ...POOLED, node: 'pve2' }, beside: 'pve2' }
    const chosen = await Promise.all([
      fromPool(build, claim, ROLES, silence),
      fromPool(beside, claim, ROLES, silence),
    ])
    // The first node's are what they would be without the other.
    const alone = await world()
    expect(chosen[0]).toEqual(await fromPool(alone.build, alone.claim, ROLES, silence))
    const addresses = chosen.flat().map(({ address }) => address ?? '')
    expect(new Set(addresses).size).toBe(6)
    expect(readAddressTags(pve.tagsOf(claim.vmid)).addresses.toSorted()).toEqual(addresses.toSorted())
  })

  test.each([
    ['a VM’s ipconfig', { name: 'web', ipconfig1: 'gw=192.0.2.1,ip=ADDRESS/24' }, 'vm'],
    ['a VM’s MAC', { name: 'web', net2: 'virtio=MAC,bridge=vmbr0' }, 'vm'],
    ['a container’s address', { name: 'web', net0: 'name=eth0,bridge=vmbr0,ip=ADDRESS/24' }, 'lxc'],
    ['a container’s MAC', { name: 'web', net0: 'name=eth0,bridge=vmbr0,hwaddr=MAC,ip=dhcp' }, 'lxc'],
  ] as const)('%s takes a pair away, and it is said whose it is', async (_, config, kind) => {
    const [preferred, next] = order()
    const { pve, build, claim } = await world()
    const fill = (text: string) =>
      text.replace('ADDRESS', preferred?.address ?? '').replace('MAC', preferred?.mac.toLowerCase() ?? '')
    const filled = Object.fromEntries(Object.entries(config).map(([key, value]) => [key, fill(value)]))
    pve.put(104, filled, { kind, node: 'pve2' })
    expect(await fromPool(build, claim, ['build'], silence)).toEqual([next])
    const label = kind === 'vm' ? 'VM 104 (web)' : 'CT 104 (web)'
    expect(infos(build)).toEqual([`${preferred?.address} is used by ${label}: taking ${next?.address}`])
  })

  test('templates, and guests that one may not look at, take nothing away', async () => {
    const [preferred] = order()
    const { pve, build, claim } = await world()
    pve.put(104, { template: 1, ipconfig0: `ip=${preferred?.address}/24` })
    pve.put(105, { name: 'secret', ipconfig0: `ip=${preferred?.address}/24` })
    pve.before = (call) => {
      if (!call.endsWith('/105/config')) return
      throw refused('GET', '/nodes/pve/qemu/105/config', 'Permission check failed (/vms/105, VM.Audit)', 403)
    }
    expect(await fromPool(build, claim, ['build'], silence)).toEqual([preferred])
  })

  test('a guest at the VMID of a template that was removed a moment ago has its address', async () => {
    const [preferred, next] = order()
    const { pve, build, claim } = await world()
    pve.put(104, { name: 'web', ipconfig0: `ip=${preferred?.address}/24` })
    pve.wereTemplates.add(104)
    expect(await fromPool(build, claim, ['build'], silence)).toEqual([next])
  })

  test('who answers at an address has it, by the name of the guest whose MAC it is', async () => {
    const [preferred, second, third, fourth] = order()
    const { pve, build, claim } = await world()
    pve.put(104, { name: 'web', net0: 'virtio=BC:24:11:00:00:01,bridge=vmbr0' })
    const answers: Record<string, Answer> = {
      [preferred?.address ?? '']: { by: 'ARP', mac: 'BC:24:11:00:00:01' },
      [second?.address ?? '']: { by: 'ARP', mac: '00:11:22:33:44:55' },
      [third?.address ?? '']: { by: 'TCP' },
    }
    const asked: string[] = []
    const probe = async (address: string) => {
      asked.push(address)
      return answers[address]
    }
    expect(await fromPool(build, claim, ['build'], probe)).toEqual([fourth])
    expect(infos(build)[0]).toBe(
      `${preferred?.address} is used by VM 104 (web), which answers there (ARP); ` +
        `${second?.address} is used by somebody with the MAC address 00:11:22:33:44:55, who answers there (ARP); ` +
        `${third?.address} is used by somebody who answers there (TCP): taking ${fourth?.address}`,
    )
    expect(new Set(asked).size).toBe(asked.length)
  })

  test('none left: the error lists who has them', async () => {
    const two = { ...ADDRESSES, last: '192.0.2.101' }
    const { pve, build, claim } = await world(new MemoryProxmox(), { ...POOLED, addresses: two })
    pve.put(104, { name: 'web', ipconfig0: 'ip=192.0.2.100/24' })
    const marks = { vmid: 9931, namespace: 'other', image: 'db', state: 'claim', expires: soon() } as const
    pve.put(9931, { tags: toTags({ ...marks, address: '192.0.2.101' }) })
    const error = await fromPool(build, claim, ['build'], silence).catch((error) => error)
    expect(error).toMatchObject({ code: 'busy', exitCode: 75, what: 'no address of target home is free' })
    expect(error.why.split('\n').sort()).toEqual([
      '192.0.2.100: VM 104 (web)',
      '192.0.2.101: a build of db (namespace other)',
    ])
  })
})

describe('by DHCP', () => {
  const mac = (role: Role) =>
    [
      ...identities(
        { namespace: 'homelab', image: aBuild().image.name, role, macPrefix: '02:1b' },
        undefined,
      ),
    ][0]?.mac ?? ''

  test('each role has its MAC and no address, and nothing is written', async () => {
    const { pve, build, claim } = await world(new MemoryProxmox(), PLACE as typeof POOLED)
    const before = pve.writes.length
    expect(await chooseIdentities(build, claim, ROLES)).toEqual({
      build: { mac: mac('build') },
      'verify-a': { mac: mac('verify-a') },
      'verify-b': { mac: mac('verify-b') },
    })
    expect(pve.writes).toHaveLength(before)
  })

  test('another guest with that MAC stops the build, by name', async () => {
    const { pve, build, claim } = await world(new MemoryProxmox(), PLACE as typeof POOLED)
    pve.put(104, { name: 'web', net0: `name=eth0,hwaddr=${mac('build')},ip=dhcp` }, { kind: 'lxc' })
    await expect(chooseIdentities(build, claim, ['build'])).rejects.toMatchObject({
      code: 'busy',
      what: `CT 104 (web) has ${mac('build')}, the MAC address that this build needs`,
    })
    expect(await chooseIdentities(build, claim, ['verify-a'])).toBeDefined()
  })

  test('a kept guest of the same image has it: prune is the way out', async () => {
    const { pve, build, claim } = await world(new MemoryProxmox(), PLACE as typeof POOLED)
    const { name: image } = build.image
    const marks = { vmid: 9004, namespace: 'homelab', image, expires: soon() }
    const note = { schema: 1, kind: 'vm', tool: '0', run: 'r', owner: SOMEBODY, ...marks } as const
    pve.put(9004, {
      tags: toTags({ ...marks, state: 'kept' }),
      description: renderNote(note),
      net0: `virtio=${mac('build')},bridge=vmbr0`,
    })
    await expect(chooseIdentities(build, claim, ['build'])).rejects.toMatchObject({
      code: 'busy',
      what: expect.stringContaining('VM 9004, kept from a failed build'),
      next: expect.stringContaining('prune --kept'),
    })
  })
})
