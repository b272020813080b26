import type { Drive, MachineSpec, Nic } from '../../world.ts'
import { failure } from '../errors.ts'
import { parseProperties } from '../property-string.ts'
import { findStorage, type Lab } from '../router.ts'
import { bootOrder, drivesOf, isCdrom, parseNet, storageOf } from './drives.ts'
import { AGENT_FORMAT, CPU_FORMAT, MACHINE_FORMAT, SMBIOS_FORMAT, VGA_FORMAT } from './options.ts'
import type { GuestConfig } from './store.ts'

const DEFAULT_MEMORY = 512

export function memoryOf(config: GuestConfig): number {
  return Number(String(config.memory ?? DEFAULT_MEMORY).replace(/^current=/, ''))
}

export function cpusOf(config: GuestConfig): number {
  return Number(config.vcpus ?? Number(config.sockets ?? 1) * Number(config.cores ?? 1))
}

export function agentEnabled(config: GuestConfig): boolean {
  return config.agent !== undefined && parseProperties(String(config.agent), AGENT_FORMAT).enabled === '1'
}

/** Where a drive's data lies. @throws ApiError when the volume is not there */
export async function mediumPath(lab: Lab, file: string): Promise<string | undefined> {
  if (file === 'none') return undefined
  if (file === 'cdrom') throw failure('the lab has no CD-ROM drive of its own')
  if (file.startsWith('/')) return file
  const storage = findStorage(lab, storageOf(file))
  if (!(await storage.find(file))) throw failure(`volume '${file}' does not exist`)
  return storage.path(file)
}

/** A configuration with its volumes resolved to paths. */
export async function machineSpec(
  lab: Lab,
  vmid: number,
  config: GuestConfig,
  log: (line: string) => void,
): Promise<MachineSpec> {
  const text = (name: string) => (config[name] === undefined ? undefined : String(config[name]))
  const drives: Drive[] = []
  for (const [slot, { file, media: _media, size: _size, ...options }] of drivesOf(config)) {
    if (slot === 'tpmstate0') {
      log('the lab starts guests without their TPM')
      continue
    }
    const path = await mediumPath(lab, file)
    const volume = file.includes(':') ? await findStorage(lab, storageOf(file)).find(file) : undefined
    drives.push({
      slot,
      media: isCdrom({ media: _media ?? 'disk' }) ? 'cdrom' : 'disk',
      options,
      ...(path !== undefined && { path }),
      ...(volume && { format: volume.format }),
    })
  }
  const nics: Nic[] = []
  for (const slot of Object.keys(config)
    .filter((name) => /^net\d+$/.test(name))
    .sort()) {
    const { model = 'virtio', macaddr = '', bridge = '', ...options } = parseNet(config[slot] as string)
    if (bridge !== '' && !lab.bridges.some(({ name }) => name === bridge)) {
      const missing = `bridge '${bridge}' does not exist`
      if (lab.pve.namesMissingBridge) throw failure(missing)
      log(missing)
      throw failure('start failed: QEMU exited with code 1')
    }
    nics.push({ slot, model, mac: macaddr, bridge, options })
  }
  const cpu = text('cpu') && parseProperties(text('cpu') as string, CPU_FORMAT).cputype
  const machine = text('machine') && parseProperties(text('machine') as string, MACHINE_FORMAT).type
  const vga = text('vga') && parseProperties(text('vga') as string, VGA_FORMAT).type
  const scsihw = text('scsihw')
  return {
    vmid,
    name: text('name') ?? `VM ${vmid}`,
    cores: Number(config.cores ?? 1),
    sockets: Number(config.sockets ?? 1),
    memory: memoryOf(config),
    bios: config.bios === 'ovmf' ? 'ovmf' : 'seabios',
    boot: bootOrder(config),
    drives,
    nics,
    serial: config.serial0 === 'socket',
    agent: agentEnabled(config),
    smbiosUuid: parseProperties(text('smbios1') ?? '', SMBIOS_FORMAT).uuid ?? '',
    ...(cpu && { cpu }),
    ...(machine && { machine }),
    ...(vga && { vga }),
    ...(scsihw && { scsihw }),
  }
}
