import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { poll } from '../../src/core/scope.ts'
import { ensureLab } from '../../src/lab/lab.ts'
import { identities } from '../../src/plan/network.ts'
import type { Pve } from '../../src/pve/client.ts'
import { destroyGuest } from '../../src/pve/destroy.ts'
import { toYaml } from '../../src/seed/cloud-config.ts'
import { iso9660 } from '../../src/seed/iso9660.ts'
import { networkConfig } from '../../src/seed/network-config.ts'
import { bootstrapDisk } from '../../src/source/bootstrap.ts'
import { CACHE_DIR, LAB_DIR, labClient, SYSTEM } from './harness.ts'

/** Guests that are created anew from one image, with the MAC of one role, by DHCP: how many leases do they use up? */

/** Ten in the campaign: each is half a minute of an emulated machine. */
const BOOTS = Number(process.env.IMAGEBUILD_TEST_BOOTS ?? 2)
const IMAGE = 'local:import/dhcp-test.qcow2'
const signal = AbortSignal.timeout(1_150_000)
let pve: Pve

beforeAll(async () => {
  const disk = await bootstrapDisk(SYSTEM, { cacheDir: CACHE_DIR, signal })
  await ensureLab({ dir: LAB_DIR, signal, emit: () => {} })
  pve = await labClient()
  const upid = await pve.upload('lab', 'local', {
    content: 'import',
    filename: 'dhcp-test.qcow2',
    source: { path: disk.path },
  })
  await pve.waitTask(upid, { seconds: 300, signal })
})

afterAll(async () => {
  const content = pve?.api.nodes.$('lab').storage.$('local').content
  for (const volid of [IMAGE, 'local:iso/dhcp-test.iso']) await content?.$(volid).$delete()
  await pve?.[Symbol.asyncDispose]()
})

interface Lease {
  /** Unix seconds: another one after each answer to the guest */
  expires: string
  address: string
  client: string
}

/** Of one MAC, also those that it does not use any more. */
async function leases(mac: string): Promise<Lease[]> {
  const lines = (await readFile(join(LAB_DIR, 'dhcp.leases'), 'utf8').catch(() => '')).split('\n')
  return lines.flatMap((line) => {
    const [expires = '', card, address = '', , client = ''] = line.split(' ')
    return card === mac.toLowerCase() ? [{ expires, address, client }] : []
  })
}

/** A guest that is new in all but its MAC, until DHCP has given it an address. */
async function bootOnce(mac: string, boot: number, { ourIdentifier }: { ourIdentifier: boolean }) {
  const { ethernets } = networkConfig({ kind: 'dhcp', macAddress: mac }) as {
    ethernets: { eth0: Record<string, string> }
  }
  if (!ourIdentifier) delete ethernets.eth0['dhcp-identifier']
  const seed = iso9660(
    'cidata',
    [
      { name: 'user-data', content: '#cloud-config\n{}\n' },
      { name: 'meta-data', content: `instance-id: dhcp-${mac}-${boot}\n` },
      { name: 'network-config', content: toYaml({ version: 2, ethernets }) },
    ],
    new Date(0),
  )
  const file = { content: 'iso', filename: 'dhcp-test.iso', source: { bytes: seed } } as const
  await pve.waitTask(await pve.upload('lab', 'local', file), { seconds: 60, signal })
  const vmid = 600
  const node = pve.api.nodes.$('lab')
  await using _guest = {
    [Symbol.asyncDispose]: () =>
      destroyGuest(pve, { kind: 'vm', node: 'lab', vmid, signal: AbortSignal.timeout(120_000) }),
  }
  const created = await node.qemu.$post({
    vmid,
    memory: '768',
    cores: 2,
    scsihw: 'virtio-scsi-single',
    scsi0: `local:0,import-from=${IMAGE}`,
    scsi1: 'local:iso/dhcp-test.iso,media=cdrom',
    net0: `virtio=${mac},bridge=vmbr0`,
    boot: 'order=scsi0',
    serial0: 'socket',
    vga: 'serial0',
  } as never)
  await pve.waitTask(created as string, { seconds: 300, signal })
  const before = await leases(mac)
  await pve.waitTask((await node.qemu.$(vmid).status.start.$post()) as string, { seconds: 120, signal })
  await poll(async () => (JSON.stringify(await leases(mac)) === JSON.stringify(before) ? undefined : true), {
    signal,
    first: 500,
    max: 500,
  })
}

const macOf = (image: string) =>
  [...identities({ namespace: 'e2e', image, role: 'build', macPrefix: '02:1b' }, undefined)][0]?.mac ?? ''

test(`${BOOTS} new guests with the MAC of one role use one lease`, async () => {
  const mac = macOf('forced')
  for (let boot = 1; boot <= BOOTS; boot += 1) {
    await bootOnce(mac, boot, { ourIdentifier: true })
    const [lease, ...others] = await leases(mac)
    expect(others, `boot ${boot}`).toEqual([])
    expect(lease?.client, `boot ${boot}`).toBe(`01:${mac.toLowerCase()}`)
  }
})

test('two that identify themselves by their machine-id use two', async () => {
  const mac = macOf('not-forced')
  for (const boot of [1, 2]) await bootOnce(mac, boot, { ourIdentifier: false })
  const used = await leases(mac)
  expect(used).toHaveLength(2)
  expect(new Set(used.map(({ client }) => client)).size).toBe(2)
})
