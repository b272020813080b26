import { describe, expect, test } from 'vitest'
import { hasVirtualization } from '../../src/lab/accelerator.ts'
import { labNames } from '../../src/lab/names.ts'
import { cpuModel, qemuCommand } from '../../src/lab/qemu-command.ts'
import type { MachineSpec } from '../../src/lab/world.ts'

const files = {
  spec: '/run/l/9.json',
  pid: '/run/l/9.pid',
  qmp: '/run/l/9.qmp',
  agent: '/run/l/9.qga',
  serial: '/run/l/9.serial',
  temporaryVars: '/run/l/9.fd',
  serialLog: '/lab/a,b/serial.log',
}

const spec: MachineSpec = {
  vmid: 9,
  name: 'debian-base',
  cores: 2,
  sockets: 1,
  memory: 1024,
  bios: 'seabios',
  scsihw: 'virtio-scsi-single',
  boot: ['scsi0', 'net0'],
  drives: [
    {
      slot: 'scsi0',
      media: 'disk',
      path: '/s/vm-9-disk-0.qcow2',
      format: 'raw',
      options: { discard: 'on', ssd: '1', iothread: '1' },
    },
    { slot: 'ide2', media: 'cdrom', path: '/s/seed,x.iso', options: {} },
  ],
  nics: [{ slot: 'net0', model: 'virtio', mac: '02:00:00:00:00:01', bridge: 'vmbr0', options: {} }],
  serial: true,
  agent: true,
  smbiosUuid: '11111111-2222-3333-4444-555555555555',
}

function command(changes: Partial<MachineSpec> = {}): string[] {
  return qemuCommand({ ...spec, ...changes }, { accelerator: 'tcg', files, tap: ({ slot }) => `tap-${slot}` })
}

/** the values that follow an option */
const all = (args: string[], option: string) => args.filter((_, index) => args[index - 1] === option)

describe('the command line', () => {
  test('has the processors that were asked for with KVM, and one where they are emulated', () => {
    const kvm = qemuCommand(spec, { accelerator: 'kvm', files, tap: ({ slot }) => slot })
    expect(all(kvm, '-smp')).toEqual(['cpus=2,sockets=1,cores=2'])
    expect(all(command(), '-smp')).toEqual(['cpus=1'])
  })

  test('opens each file in the format of its suffix, whatever the storage reports', () => {
    const drives = all(command(), '-drive')
    expect(drives[0]).toBe(
      'if=none,id=drive-scsi0,file=/s/vm-9-disk-0.qcow2,format=qcow2,cache=unsafe,aio=threads,discard=unmap,detect-zeroes=unmap',
    )
    expect(drives[1]).toContain('file=/s/seed,,x.iso,format=raw')
  })

  test('gives each disk of virtio-scsi-single a controller and thread of its own', () => {
    const args = command()
    expect(all(args, '-object')).toEqual(['iothread,id=iothread-scsi0'])
    expect(all(args, '-device')).toContain('virtio-scsi-pci,iothread=iothread-scsi0,id=virtioscsi0')
    expect(all(args, '-device')).toContain(
      'scsi-hd,bus=virtioscsi0.0,channel=0,scsi-id=0,lun=0,drive=drive-scsi0,id=scsi0,bootindex=1,rotation_rate=1',
    )
  })

  test('puts several disks on one controller otherwise', () => {
    const drives = [0, 3].map((n) => ({
      slot: `scsi${n}`,
      media: 'disk' as const,
      path: `/s/${n}.raw`,
      options: {},
    }))
    const devices = all(command({ scsihw: 'virtio-scsi-pci', drives }), '-device')
    expect(devices.filter((device) => device.startsWith('virtio-scsi-pci'))).toEqual([
      'virtio-scsi-pci,id=scsihw0',
    ])
    expect(devices.find((device) => device.includes('id=scsi3'))).toContain(
      'bus=scsihw0.0,channel=0,scsi-id=0,lun=3',
    )
  })

  test('waits for no boot menu and no network boot', () => {
    const args = command()
    expect(all(args, '-boot')).toEqual(['menu=off,strict=on'])
    expect(all(args, '-device').find((device) => device.startsWith('virtio-net'))).toContain(
      'romfile=,bootindex=2',
    )
  })

  test('records the serial console, and has no devices that were not asked for', () => {
    expect(all(command(), '-chardev').join()).toContain('logfile=/lab/a,,b/serial.log')
    const bare = command({ serial: false, agent: false, drives: [], nics: [] })
    expect(bare).toContain('-nodefaults')
    expect(all(bare, '-device')).toEqual(['virtio-rng-pci'])
    expect(all(bare, '-vga')).toEqual(['none'])
    // SeaBIOS's own words go to the serial port then.
    expect(all(bare, '-machine')).toEqual(['pc,graphics=off'])
  })

  test('gives OVMF its variables in exactly their size, also on a qcow2 file that is larger', () => {
    const efidisk = {
      slot: 'efidisk0',
      media: 'disk' as const,
      path: '/s/vm-9-disk-1.qcow2',
      options: { efitype: '4m' },
    }
    const drives = all(command({ bios: 'ovmf', drives: [efidisk] }), '-drive')
    expect(drives[0]).toContain('readonly=on,file=/usr/share/OVMF/OVMF_CODE_4M.fd')
    expect(drives[1]).toContain(
      'size=540672,file.driver=qcow2,file.file.driver=file,file.file.filename=/s/vm-9-disk-1.qcow2',
    )
    expect(all(command({ bios: 'ovmf', drives: [] }), '-drive')[1]).toContain('file.filename=/run/l/9.fd')
  })

  test('enforces Secure Boot where SMM is: on q35', () => {
    const options = { efitype: '4m', 'pre-enrolled-keys': '1' }
    const drives = [{ slot: 'efidisk0', media: 'disk' as const, path: '/s/vm-9-disk-1.raw', options }]
    const code = (machine: string) => all(command({ bios: 'ovmf', machine, drives }), '-drive')[0]
    expect(code('q35')).toContain('file=/usr/share/OVMF/OVMF_CODE_4M.ms.fd')
    expect(code('pc')).toContain('file=/usr/share/OVMF/OVMF_CODE_4M.fd')
  })
})

test('CPU types are Proxmox’s', () => {
  expect(cpuModel(undefined, 'tcg')).toBe('kvm64')
  expect(cpuModel('host', 'kvm')).toBe('host')
  expect(cpuModel('host', 'tcg')).toBe('max')
  expect(cpuModel('x86-64-v3', 'tcg')).toBe('max')
  expect(cpuModel('x86-64-v2-AES', 'kvm')).toBe('qemu64,+aes,+popcnt,+pni,+sse4.1,+sse4.2,+ssse3')
  expect(cpuModel('cputype=max,flags=-svm;+pcid', 'tcg')).toBe('max,-svm,+pcid')
})

test('an emulated CPU with AES can do what Linux expects of it', () => {
  expect(cpuModel('x86-64-v2-AES', 'tcg')).toBe('qemu64,+aes,+popcnt,+pni,+sse4.1,+sse4.2,+ssse3,+pclmulqdq')
  expect(cpuModel('kvm64,flags=+aes', 'tcg')).toBe('kvm64,+aes,+pclmulqdq')
})

test('KVM counts only where the CPU can virtualise', () => {
  expect(hasVirtualization('processor: 0\nflags\t\t: fpu svm sse2\n')).toBe(true)
  expect(hasVirtualization('flags\t\t: fpu hypervisor sse2\nbugs: vmxlike\n')).toBe(false)
})

test('interface names fit into 15 characters, and differ per VM and NIC', () => {
  const names = labNames('/var/lib/lab')
  expect(names.bridge.length).toBeLessThanOrEqual(15)
  const taps = [
    names.tap(999999999, 'net31'),
    names.tap(100, 'net0'),
    names.tap(100, 'net1'),
    names.tap(101, 'net0'),
  ]
  expect(new Set(taps).size).toBe(4)
  expect(Math.max(...taps.map((tap) => tap.length))).toBeLessThanOrEqual(15)
  expect(labNames('/var/lib/lab/')).toMatchObject({ bridge: names.bridge })
  expect(labNames('/var/lib/other').bridge).not.toBe(names.bridge)
})
