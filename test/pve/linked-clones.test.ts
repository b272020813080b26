import { expect, test } from 'vitest'
import type { GuestConfig } from '../../src/pve/answers.ts'
import { linkedClones } from '../../src/pve/linked-clones.ts'
import { type Config, MemoryProxmox } from './memory-proxmox.ts'

/** As the storages of Proxmox name a linked clone's disk. */
test.each([
  [
    'a directory',
    'local:110/base-110-disk-0.qcow2',
    'local:110/base-110-disk-0.qcow2/130/vm-130-disk-0.qcow2',
  ],
  ['ZFS', 'local-zfs:base-110-disk-0', 'local-zfs:base-110-disk-0/vm-130-disk-0'],
])('on %s, a clone is named by its disk', async (_what, base, disk) => {
  const pve = new MemoryProxmox()
  const config: Config = { template: 1, name: 'gold', scsi0: `${base},size=3G`, ide2: 'none,media=cdrom' }
  pve.put(110, config)
  pve.put(130, { name: 'shop', scsi0: disk })
  // Of another template whose VMID begins alike, and one that is a full copy.
  pve.put(131, { scsi0: disk.replaceAll('110', '1101').replaceAll('130', '131') })
  pve.put(132, { scsi0: base.replaceAll('base-110', 'vm-132').replace('110/', '132/') })
  const template = { kind: 'vm', node: 'pve', vmid: 110 } as const
  const clones = await linkedClones(pve.client(), template, { ...config, digest: '' } as GuestConfig)
  expect(clones).toEqual([{ vmid: 130, label: 'VM 130 (shop)' }])
})

test('a guest that has no base volume has none, and no storage is asked', async () => {
  const pve = new MemoryProxmox()
  pve.before = () => {
    throw new Error('asked')
  }
  const config = {
    digest: '',
    scsi0: 'local:110/vm-110-disk-0.qcow2,size=3G',
    description: 'base-110-disk-0',
  }
  expect(await linkedClones(pve.client(), { kind: 'vm', node: 'pve', vmid: 110 }, config)).toEqual([])
})
