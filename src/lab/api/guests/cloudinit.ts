import { createHash, randomBytes } from 'node:crypto'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { execa } from 'execa'
import { failure } from '../errors.ts'
import { splitList } from '../formats.ts'
import { parseProperties } from '../property-string.ts'
import { findStorage, type Lab } from '../router.ts'
import { drivesOf, isCloudInit, parseNet, storageOf } from './drives.ts'
import type { GuestConfig } from './store.ts'

/** The NoCloud drive that Proxmox generates from a guest's own options at each start. */

/** Options that a cloud-init drive is made of. */
export const CLOUDINIT_OPTIONS =
  /^(cicustom|cipassword|citype|ciuser|ciupgrade|nameserver|searchdomain|sshkeys|ipconfig\d+)$/

export type Part = 'user' | 'network' | 'meta'

/** Name servers and search domains; the node's own where the guest has none. */
async function dnsOf(lab: Lab, config: GuestConfig): Promise<{ servers: string[]; domains: string[] }> {
  const resolver = await readFile('/etc/resolv.conf', 'utf8').catch(() => '')
  const lines = (key: string) =>
    resolver
      .split('\n')
      .filter((line) => line.startsWith(`${key} `))
      .flatMap((line) => splitList(line.slice(key.length)))
  // The node's own loopback resolver is nothing that a guest could reach.
  const own = lines('nameserver').filter((server) => !server.startsWith('127.') && server !== '::1')
  const bridge = lab.bridges[0]?.address
  return {
    servers: config.nameserver
      ? splitList(String(config.nameserver))
      : own.length > 0
        ? own
        : bridge === undefined
          ? []
          : [bridge],
    domains: config.searchdomain ? splitList(String(config.searchdomain)) : lines('search'),
  }
}

async function userData(lab: Lab, vmid: number, config: GuestConfig): Promise<string> {
  const { domains } = await dnsOf(lab, config)
  const name = String(config.name ?? `VM${vmid}`)
  const fqdn = name.includes('.') ? name : domains[0] === undefined ? undefined : `${name}.${domains[0]}`
  const user = config.ciuser
  const keys = decodeURIComponent(String(config.sshkeys ?? ''))
    .split('\n')
    .map((key) => key.trim())
    .filter((key) => key !== '')
  const lines = [
    '#cloud-config',
    `hostname: ${name.split('.')[0]}`,
    'manage_etc_hosts: true',
    ...(fqdn === undefined ? [] : [`fqdn: ${fqdn}`]),
    ...(user === undefined ? [] : [`user: ${user}`]),
    ...(user === 'root' ? ['disable_root: False'] : []),
    ...(config.cipassword === undefined ? [] : [`password: ${config.cipassword}`]),
    ...(keys.length > 0 ? ['ssh_authorized_keys:', ...keys.map((key) => `  - ${key}`)] : []),
    'chpasswd:',
    '  expire: False',
    ...(user === 'root' ? [] : ['users:', '  - default']),
    ...(config.ciupgrade === 0 ? [] : ['package_upgrade: true']),
  ]
  return `${lines.join('\n')}\n`
}

function netmask(bits: number): string {
  const mask = bits === 0 ? 0 : (0xffffffff << (32 - bits)) >>> 0
  return [24, 16, 8, 0].map((shift) => (mask >>> shift) & 255).join('.')
}

async function networkConfig(lab: Lab, config: GuestConfig): Promise<string> {
  const lines = ['version: 1', 'config:']
  const cards = Object.keys(config).filter((name) => /^net\d+$/.test(name))
  for (const card of cards.sort()) {
    const index = card.slice(3)
    const ipconfig = config[`ipconfig${index}`]
    if (ipconfig === undefined) continue
    const entries = String(ipconfig)
      .split(',')
      .map((part) => part.split('=', 2) as [string, string])
    const { ip, gw, ip6, gw6 } = Object.fromEntries(entries) as Record<string, string | undefined>
    const mac = (parseNet(config[card] as string).macaddr ?? '').toLowerCase()
    lines.push(
      '    - type: physical',
      `      name: eth${index}`,
      `      mac_address: '${mac}'`,
      '      subnets:',
    )
    if (ip === 'dhcp') lines.push('      - type: dhcp4')
    else if (ip !== undefined) {
      const [address, bits] = ip.split('/')
      lines.push(
        '      - type: static',
        `        address: '${address}'`,
        `        netmask: '${netmask(Number(bits))}'`,
      )
      if (gw !== undefined) lines.push(`        gateway: '${gw}'`)
    }
    if (ip6 === 'dhcp') lines.push('      - type: dhcp6')
    else if (ip6 === 'auto') lines.push('      - type: ipv6_slaac')
    else if (ip6 !== undefined) {
      lines.push('      - type: static6', `        address: '${ip6}'`)
      if (gw6 !== undefined) lines.push(`        gateway: '${gw6}'`)
    }
  }
  const { servers, domains } = await dnsOf(lab, config)
  if (servers.length + domains.length > 0) {
    lines.push('    - type: nameserver')
    if (servers.length > 0) lines.push('      address:', ...servers.map((server) => `      - '${server}'`))
    if (domains.length > 0) lines.push('      search:', ...domains.map((domain) => `      - '${domain}'`))
  }
  return `${lines.join('\n')}\n`
}

/** One file of the drive; a `cicustom` snippet goes before what is generated. */
export async function cloudInitPart(
  lab: Lab,
  vmid: number,
  config: GuestConfig,
  part: Part,
): Promise<string> {
  const custom = parseProperties(String(config.cicustom ?? ''), { properties: {} })[part]
  if (custom !== undefined) {
    const storage = findStorage(lab, storageOf(custom))
    return readFile(storage.path(custom), 'utf8').catch(() => {
      throw failure(`volume '${custom}' does not exist`)
    })
  }
  if (part === 'user') return userData(lab, vmid, config)
  if (part === 'network') return networkConfig(lab, config)
  const [user, network] = await Promise.all([
    cloudInitPart(lab, vmid, config, 'user'),
    cloudInitPart(lab, vmid, config, 'network'),
  ])
  return `instance-id: ${createHash('sha1')
    .update(user + network)
    .digest('hex')}\n`
}

/** Writes the drive anew. Gives false where the guest has none. */
export async function writeCloudInitDrive(
  lab: Lab,
  vmid: number,
  config: GuestConfig,
  log: (line: string) => void,
): Promise<boolean> {
  const drives = drivesOf(config).filter(([, drive]) => isCloudInit(drive))
  if (drives.length === 0) return false
  const [user, network, meta] = await Promise.all(
    (['user', 'network', 'meta'] as const).map((part) => cloudInitPart(lab, vmid, config, part)),
  )
  log('generating cloud-init ISO')
  const folder = await mkdtemp(join(tmpdir(), 'lab-cloudinit-'))
  try {
    const files = { 'user-data': user, 'network-config': network, 'meta-data': meta }
    for (const [name, text] of Object.entries(files))
      await writeFile(join(folder, name), text as string, { mode: 0o600 })
    const iso = join(folder, 'seed.iso')
    const names = Object.keys(files).map((name) => join(folder, name))
    await execa('xorriso', [
      '-as',
      'mkisofs',
      '-quiet',
      '-joliet',
      '-rock',
      '-volid',
      'cidata',
      '-output',
      iso,
      ...names,
    ])
    for (const [, drive] of drives) await findStorage(lab, storageOf(drive.file)).fill(drive.file, iso)
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
  return true
}

/** What Proxmox stores instead of the password: a SHA-256 crypt hash, unless it is one already. */
export async function hashedPassword(password: string): Promise<string> {
  if (/^\$(?:[156]|2[ay])(?:\$.+){2}/.test(password)) return password
  const salt = randomBytes(9).toString('base64').replace(/[+=]/g, '.').slice(0, 12)
  // perl-base is part of every Debian; the password goes through stdin, never through argv.
  const { stdout } = await execa('perl', ['-e', `local $/; print crypt(<STDIN>, '$5$${salt}$')`], {
    input: password,
  })
  return stdout
}
