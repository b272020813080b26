import { describe, expect, test } from 'vitest'
import { buildParameters, templateParameters } from '../../src/build/machine.ts'
import { imageSpec } from '../plan/spec.ts'
import { PLACE } from '../pve/memory-proxmox.ts'

const MAC = '02:1B:00:00:00:01'
const spec = imageSpec()
const base = {
  image: spec,
  place: PLACE,
  mac: MAC,
  seedVolid: 'local:iso/seed.iso',
  sourceVolid: 'local:import/x.qcow2',
}

describe('the guest while it is built', () => {
  test('imports its disk, has the seed in a drive, and our MAC', () => {
    expect(buildParameters(base)).toMatchObject({
      scsi0: 'local-lvm:0,import-from=local:import/x.qcow2,discard=on,iothread=1',
      scsi1: 'local:iso/seed.iso,media=cdrom',
      net0: `virtio=${MAC},bridge=vmbr0`,
      boot: 'order=scsi0',
      scsihw: 'virtio-scsi-single',
      serial0: 'socket',
      agent: 'enabled=1',
    })
    expect(buildParameters({ ...base, place: { ...PLACE, vlan: 30 } }).net0).toBe(
      `virtio=${MAC},bridge=vmbr0,tag=30`,
    )
  })

  test('may have more cores and memory than the template', () => {
    const image = imageSpec({ build: { ...spec.build, cores: 4, memory: 4096 } })
    expect(buildParameters({ ...base, image })).toMatchObject({ cores: 4, sockets: 1, memory: '4096' })
    expect(templateParameters(image, PLACE)).toMatchObject({ cores: 1, memory: '1024' })
  })

  test('has an EFI disk exactly where it boots by UEFI', () => {
    expect(buildParameters(base)).not.toHaveProperty('efidisk0')
    const image = imageSpec({ hardware: { ...spec.hardware, bios: 'ovmf' } })
    expect(buildParameters({ ...base, image }).efidisk0).toBe('local-lvm:1,efitype=4m,pre-enrolled-keys=0')
  })

  test('as a clone brings its disks along', () => {
    const { sourceVolid: _, ...clone } = base
    const image = imageSpec({ hardware: { ...spec.hardware, bios: 'ovmf' } })
    const parameters = buildParameters({ ...clone, image, place: { ...PLACE, pool: 'builders' } })
    for (const key of ['scsi0', 'efidisk0', 'pool']) expect(parameters).not.toHaveProperty(key)
    expect(buildParameters({ ...base, place: { ...PLACE, pool: 'builders' } }).pool).toBe('builders')
  })
})

describe('the Microsoft certificates that Proxmox VE 9 names on an EFI disk (ms-cert)', () => {
  const efidisk = { efitype: '4m', 'pre-enrolled-keys': true } as const
  const image = imageSpec({ hardware: { ...spec.hardware, bios: 'ovmf', efidisk } })

  test('are Proxmox’s to choose when it makes the disk', () => {
    expect(buildParameters({ ...base, image }).efidisk0).toBe('local-lvm:1,efitype=4m,pre-enrolled-keys=1')
  })

  test('stay: nothing writes the disk anew where there is one', () => {
    const { sourceVolid: _, ...clone } = base
    expect(buildParameters({ ...clone, image })).not.toHaveProperty('efidisk0')
    expect(templateParameters(image, PLACE)).not.toHaveProperty('efidisk0')
  })
})

describe('the template', () => {
  test('has no MAC of ours, a cloud-init drive of its own, and does not upgrade at first boot', () => {
    const parameters = templateParameters(spec, { ...PLACE, vlan: 30 })
    expect(parameters).toMatchObject({
      net0: 'virtio,bridge=vmbr0,tag=30',
      ide2: 'local-lvm:cloudinit',
      ipconfig0: 'ip=dhcp',
      ciupgrade: false,
    })
    expect(JSON.stringify(parameters)).not.toContain(MAC)
  })

  test.each([{ machine: 'pc-q35-9.0' }, { bios: 'ovmf' as const }])(
    'has that drive where its kernel finds it, with %o',
    (hardware) => {
      const parameters = templateParameters(imageSpec({ hardware: { ...spec.hardware, ...hardware } }), PLACE)
      expect(parameters.scsi1).toBe('local-lvm:cloudinit')
      expect(parameters).not.toHaveProperty('ide2')
    },
  )
})
