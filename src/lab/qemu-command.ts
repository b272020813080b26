import type { Accelerator } from './accelerator.ts'
import { firmware } from './firmware.ts'
import type { MachineFiles } from './machine-files.ts'
import { formatOf } from './qemu-img.ts'
import type { Drive, MachineSpec, Nic } from './world.ts'

export interface CommandOptions {
  accelerator: Accelerator
  files: MachineFiles
  /** name of the tap device of a NIC */
  tap: (nic: Nic) => string
}

/**
 * The command line for qemu-system-x86_64. Devices are called as Proxmox calls them (drive-scsi0, net0). It starts
 * paused: the taps, which QEMU makes and which vanish with it, have to be put on the bridge first.
 */
export function qemuCommand(spec: MachineSpec, { accelerator, files, tap }: CommandOptions): string[] {
  const bootIndex = new Map(spec.boot.map((slot, index) => [slot, index + 1]))
  const bootAt = (slot: string) => (bootIndex.has(slot) ? { bootindex: bootIndex.get(slot) } : {})
  const q35 = spec.machine?.startsWith('q35') || spec.machine?.startsWith('pc-q35') || false
  const smp = processors(spec, accelerator)
  return [
    ...['-no-user-config', '-nodefaults', '-daemonize', '-S', '-display', 'none'],
    ...['-name', `${commas(spec.name)},process=lab-${spec.vmid}`],
    ...['-pidfile', files.pid],
    // Without a screen, SeaBIOS speaks on the serial port, as in Proxmox.
    ...['-machine', `${spec.machine ?? 'pc'}${spec.vga === 'std' ? '' : ',graphics=off'}`],
    ...['-accel', ACCELERATORS[accelerator]],
    ...['-cpu', cpuModel(spec.cpu, accelerator), '-smp', list(smp), '-m', String(spec.memory)],
    ...['-smbios', `type=1,uuid=${spec.smbiosUuid}`, '-rtc', 'base=utc'],
    ...['-boot', 'menu=off,strict=on', '-vga', spec.vga === 'std' ? 'std' : 'none'],
    ...[
      '-chardev',
      `socket,id=qmp,path=${commas(files.qmp)},server=on,wait=off`,
      '-mon',
      'chardev=qmp,mode=control',
    ],
    ...['-device', 'virtio-rng-pci'],
    ...(spec.serial ? serialPort(files) : []),
    ...(spec.agent ? agentPort(files) : []),
    ...(spec.bios === 'ovmf' ? flash(spec, q35, files) : []),
    ...drives(spec, q35, bootAt),
    ...spec.nics.flatMap((nic) => network(nic, tap(nic), bootAt(nic.slot))),
  ]
}

const ACCELERATORS: Record<Accelerator, string> = { kvm: 'kvm', tcg: 'tcg' }

/**
 * An emulated machine has one processor, whatever it is configured to have: with several, QEMU 7.2 sometimes goes on
 * running code that Linux has just patched (an int3 of text_poke, in a jump label), and the guest hangs for good.
 */
export function processors(
  { cores, sockets }: Pick<MachineSpec, 'cores' | 'sockets'>,
  accelerator: Accelerator,
): Values {
  return accelerator === 'tcg' ? { cpus: 1 } : { cpus: cores * sockets, sockets, cores }
}

/** Proxmox's own CPU types, which QEMU does not know: qemu64 with the flags of that level. */
const LEVELS: Record<string, string> = {
  'x86-64-v2': 'qemu64,+popcnt,+pni,+sse4.1,+sse4.2,+ssse3',
  'x86-64-v2-AES': 'qemu64,+aes,+popcnt,+pni,+sse4.1,+sse4.2,+ssse3',
  'x86-64-v3':
    'qemu64,+aes,+popcnt,+pni,+sse4.1,+sse4.2,+ssse3,+avx,+avx2,+bmi1,+bmi2,+f16c,+fma,+abm,+movbe,+xsave',
}

/**
 * Proxmox's `cpu` in QEMU's words; kvm64 where there is none, as in Proxmox. What the choice costs under software
 * emulation, for a small Debian 12 to its login prompt (2 cores, QEMU 7.2): 12 s with qemu64, 15 to 16 s with `max`,
 * whose paging and vector state cost more to emulate than they bring.
 *
 * Emulated, `host` means `max`, and so does x86-64-v3: QEMU 7.2 boots no Linux on qemu64 with AVX2 added.
 *
 * Linux takes AES for a promise of PCLMULQDQ, which on real processors comes with it. Without the flag an emulated
 * one refuses the instruction: the kernel's AES driver dies and udev waits 120 s for it.
 */
export function cpuModel(cpu: string | undefined, accelerator: Accelerator): string {
  const [type = 'kvm64', ...rest] = (cpu ?? 'kvm64').replace(/^cputype=/, '').split(',')
  const emulated = accelerator === 'tcg' && (type === 'host' || type === 'x86-64-v3')
  const model = emulated ? 'max' : (LEVELS[type] ?? type)
  const flags = rest.find((option) => option.startsWith('flags='))?.slice('flags='.length)
  const named = [...model.split(','), ...(flags ? flags.split(';') : [])]
  const carryless = accelerator === 'tcg' && named.includes('+aes') ? ['+pclmulqdq'] : []
  return [...named, ...carryless].join(',')
}

function serialPort(files: MachineFiles): string[] {
  const backend = `socket,id=serial0,path=${commas(files.serial)},server=on,wait=off,logfile=${commas(files.serialLog)},logappend=off`
  return ['-chardev', backend, '-device', 'isa-serial,chardev=serial0']
}

function agentPort(files: MachineFiles): string[] {
  return [
    ...['-chardev', `socket,id=qga0,path=${commas(files.agent)},server=on,wait=off`],
    ...[
      '-device',
      'virtio-serial-pci,id=qga',
      '-device',
      'virtserialport,chardev=qga0,name=org.qemu.guest_agent.0',
    ],
  ]
}

function flash(spec: MachineSpec, q35: boolean, files: MachineFiles): string[] {
  const disk = spec.drives.find(({ slot }) => slot === 'efidisk0')
  const { code, varsBytes } = firmware(disk?.options ?? {}, q35)
  const vars = disk?.path ?? files.temporaryVars
  // A raw view of exactly the right size, whatever lies beneath and however far a storage has rounded it up.
  const layers =
    formatOf(vars) === 'qcow2' ? 'file.driver=qcow2,file.file.driver=file,file.file' : 'file.driver=file,file'
  return [
    ...['-drive', `if=pflash,unit=0,format=raw,readonly=on,file=${code}`],
    ...[
      '-drive',
      `if=pflash,unit=1,id=drive-efidisk0,format=raw,size=${varsBytes},${layers}.filename=${commas(vars)}`,
    ],
  ]
}

type BootAt = (slot: string) => Record<string, number | undefined>

function drives(spec: MachineSpec, q35: boolean, bootAt: BootAt): string[] {
  const args: string[] = []
  const controllers = new Set<string>()
  /** adds a controller once */
  const controller = (id: string, device: string) => {
    if (!controllers.has(id)) args.push('-device', `${device},id=${id}`)
    controllers.add(id)
    return id
  }
  for (const drive of spec.drives) {
    if (drive.slot === 'efidisk0' || drive.slot.startsWith('tpmstate')) continue
    const [, kind = '', digits = ''] = /^([a-z]+)(\d+)$/.exec(drive.slot) ?? []
    const number = Number(digits)
    const common = { drive: `drive-${drive.slot}`, id: drive.slot, ...bootAt(drive.slot) }
    const cd = drive.media === 'cdrom'
    const ssd = drive.options.ssd === '1' ? { rotation_rate: 1 } : {}
    args.push('-drive', backend(drive))
    const thread = drive.options.iothread === '1' ? `iothread-${drive.slot}` : undefined
    if (kind === 'scsi') {
      const single = spec.scsihw === 'virtio-scsi-single'
      if (single && thread) args.push('-object', `iothread,id=${thread}`)
      const device = SCSI[spec.scsihw ?? 'lsi'] ?? 'virtio-scsi-pci'
      const bus = single
        ? controller(`virtioscsi${number}`, thread ? `${device},iothread=${thread}` : device)
        : controller('scsihw0', device)
      const lun = single ? 0 : number
      const address = device === 'lsi' ? { 'scsi-id': lun } : { channel: 0, 'scsi-id': 0, lun }
      args.push(
        '-device',
        list(cd ? 'scsi-cd' : 'scsi-hd', { bus: `${bus}.0`, ...address, ...common, ...(cd ? {} : ssd) }),
      )
    } else if (kind === 'virtio') {
      if (thread) args.push('-object', `iothread,id=${thread}`)
      args.push('-device', list('virtio-blk-pci', { ...common, ...(thread && { iothread: thread }) }))
    } else if (kind === 'sata') {
      const bus = controller('ahci0', 'ahci')
      args.push(
        '-device',
        list(cd ? 'ide-cd' : 'ide-hd', { bus: `${bus}.${number}`, ...common, ...(cd ? {} : ssd) }),
      )
    } else {
      const at = q35 ? { bus: `ide.${number}` } : { bus: `ide.${Math.floor(number / 2)}`, unit: number % 2 }
      args.push('-device', list(cd ? 'ide-cd' : 'ide-hd', { ...at, ...common, ...(cd ? {} : ssd) }))
    }
  }
  return args
}

const SCSI: Record<string, string> = {
  lsi: 'lsi',
  lsi53c810: 'lsi53c810',
  megasas: 'megasas',
  pvscsi: 'pvscsi',
  'virtio-scsi-pci': 'virtio-scsi-pci',
  'virtio-scsi-single': 'virtio-scsi-pci',
}

/**
 * `cache=unsafe` unless the drive says otherwise: no flush of the guest waits for this machine's disk. QEMU writes
 * everything to the file when it ends, and the lab has the file flushed then.
 */
function backend({ slot, media, path, options }: Drive): string {
  const id = `drive-${slot}`
  if (media === 'cdrom') {
    return list({
      if: 'none',
      id,
      media: 'cdrom',
      readonly: 'on',
      ...(path && { file: commas(path), format: formatOf(path) }),
    })
  }
  if (path === undefined) throw new Error(`${slot}: a disk needs a volume`)
  const discard =
    options.discard === 'on' ? { discard: 'unmap', 'detect-zeroes': 'unmap' } : { 'detect-zeroes': 'on' }
  const cache = options.cache ?? 'unsafe'
  const aio = options.aio ?? 'threads'
  return list({ if: 'none', id, file: commas(path), format: formatOf(path), cache, aio, ...discard })
}

/** No option ROM: nothing waits for a network boot. */
function network(nic: Nic, tap: string, boot: Record<string, number | undefined>): string[] {
  const model = nic.model === 'virtio' ? 'virtio-net-pci' : nic.model
  const mtu =
    nic.options.mtu !== undefined && nic.model === 'virtio' ? { host_mtu: Number(nic.options.mtu) } : {}
  return [
    ...['-netdev', `tap,id=${nic.slot},ifname=${tap},script=no,downscript=no`],
    ...[
      '-device',
      list(model, { mac: nic.mac, netdev: nic.slot, id: `${nic.slot}-device`, romfile: '', ...mtu, ...boot }),
    ],
  ]
}

type Values = Record<string, string | number | undefined>

function list(first: string | Values, more: Values = {}): string {
  const values = typeof first === 'string' ? more : first
  const pairs = Object.entries(values).map(([key, value]) => `${key}=${value}`)
  return (typeof first === 'string' ? [first, ...pairs] : pairs).join(',')
}

/** A comma within a value is written twice. */
function commas(value: string): string {
  return value.replaceAll(',', ',,')
}
