import { parseEnv } from 'node:util'
import { ImagebuildError } from '../../core/errors.ts'
import { decode, readLines } from '../verify/examiner.ts'
import { parseApt } from './apt.ts'
import { capabilityText } from './capabilities.ts'
import type { Manifest, Package, Port, PrivilegedFile, Sysctl } from './manifest.ts'

/** What inventory.sh told: text and exit code, by name. */
type Facts = Map<string, { text: string; code: number }>

/** The part of a manifest that the machine itself knows. */
export type Found = Omit<Manifest, 'schema' | 'image' | 'version' | 'kind' | 'digest' | 'built'>

/**
 * Reads what inventory.sh printed.
 * @param buildUser who logs in for the build alone
 * @throws ImagebuildError `build_failed` where it was cut off, or could not look at the files
 */
export function parseInventory(stdout: string, buildUser: string): Found {
  const facts: Facts = new Map()
  for (const { fact, value, code } of readLines<{ fact: string; value: string; code: number }>(stdout))
    facts.set(fact, { text: decode(value), code })
  const text = (name: string) => facts.get(name)?.text ?? ''
  const known = <T>(name: string, read: (text: string) => T): T | null =>
    facts.get(name)?.code === 0 ? read(text(name)) : null
  if (!facts.has('end') || facts.get('files')?.code !== 0) {
    throw new ImagebuildError({
      code: 'build_failed',
      what: 'what is in the image could not be written down',
      why: facts.has('end') ? 'its files could not be looked at' : 'the answer of the guest was cut off',
      next: 'run again with --on-error keep to look into the guest',
    })
  }
  return {
    distribution: distribution(text('os-release')),
    kernels: lines(text('kernels'))
      .map((name) => name.replace(/^vmlinuz-/, ''))
      .sort(),
    packages: known('packages', (list) => packages(list, text('automatic'))),
    apt: known('apt-sources', (lines) => known('apt-keyrings', (sums) => parseApt(lines, sums))),
    sshd: known('sshd', sshd),
    sysctl: sysctl(text('sysctl-configured'), text('sysctl-effective')),
    ports: known('ports', ports),
    ...files(text('files')),
    units: known('units', units),
    users: users(text('users'), buildUser),
  }
}

const lines = (text: string) => text.split('\n').filter((line) => line !== '')

/** Texts in the order of their code points, the same on every machine. */
const order = (a: string, b: string) => (a < b ? -1 : a > b ? 1 : 0)

const sorted = <T>(entries: Iterable<[string, T]>): Record<string, T> =>
  Object.fromEntries([...entries].sort(([a], [b]) => order(a, b)))

function distribution(osRelease: string): Manifest['distribution'] {
  const { ID, VERSION_ID, VERSION_CODENAME, PRETTY_NAME } = parseEnv(osRelease)
  return {
    id: ID ?? '',
    version: VERSION_ID ?? '',
    codename: VERSION_CODENAME ?? '',
    name: PRETTY_NAME ?? '',
  }
}

/** @param states apt's list of what it has installed for other packages; what is not in it was asked for */
function packages(list: string, states: string): Package[] {
  const automatic = new Set(
    states.split('\n\n').flatMap((entry) => {
      const fields = new Map(lines(entry).map((line) => line.split(': ', 2) as [string, string]))
      const [name, architecture] = [fields.get('Package'), fields.get('Architecture')]
      // Of a package for all architectures apt says the machine's own.
      return fields.get('Auto-Installed') === '1' ? [`${name}:${architecture}`, `${name}:all`] : []
    }),
  )
  return lines(list)
    .map((line) => {
      const [name = '', version = '', architecture = '', source = '', sourceVersion = '', status = '', want] =
        line.split('\t')
      return {
        ...{ name, version, architecture, source, sourceVersion, status },
        manual: status !== 'config-files' && !automatic.has(`${name}:${architecture}`),
        held: want === 'hold',
      }
    })
    .filter(({ status }) => status !== 'not-installed')
    .sort((a, b) => order(a.name, b.name) || order(a.architecture, b.architecture))
}

function sshd(text: string): Record<string, string[]> {
  const values = new Map<string, string[]>()
  for (const line of lines(text)) {
    const [, keyword = '', value = ''] = /^(\S+)\s*(.*)$/.exec(line) ?? []
    values.set(keyword, [...(values.get(keyword) ?? []), value])
  }
  return sorted(values)
}

function sysctl(configured: string, effective: string): Record<string, Sysctl> {
  const values = new Map<string, Sysctl>()
  const read = (text: string, name: keyof Sysctl) => {
    for (const line of lines(text)) {
      const [key = '', value = ''] = line.split('\t')
      values.set(key, { ...values.get(key), [name]: value })
    }
  }
  read(configured, 'configured')
  read(effective, 'effective')
  return sorted(values)
}

/** `udp UNCONN 0 0 127.0.0.53%lo:53 0.0.0.0:* users:(("systemd-resolve",pid=1,fd=2))`, after the kernel's port range */
function ports(text: string): Port[] {
  const [range = '', ...sockets] = lines(text)
  const [first = 0, last = 0] = range.split(/\s+/).map(Number)
  const found = new Map<string, Port>()
  for (const line of sockets) {
    const [protocol, , , , local = '', , ...rest] = line.trim().split(/\s+/)
    if (protocol !== 'tcp' && protocol !== 'udp') continue
    const colon = local.lastIndexOf(':')
    const number = Number(local.slice(colon + 1))
    const holders = [...rest.join(' ').matchAll(/\("((?:[^"\\]|\\.)*)",pid=/g)].map(([, name = '']) => name)
    // A process that systemd has just forked holds all that systemd does, under a name in parentheses.
    const processes = [...new Set(holders)].filter((name) => !name.startsWith('(')).sort()
    // No service is found at such a port, unless somebody tells where it is; a TCP one may well have been chosen.
    const asksNobody =
      protocol === 'udp' || processes.length === 0 || processes.some((name) => name.startsWith('rpc.'))
    const port = number >= first && number <= last && asksNobody ? 'dynamic' : number
    const entry: Port = { protocol, address: addressOf(local.slice(0, colon)), port, processes }
    found.set(JSON.stringify(entry), entry)
  }
  return [...found.values()].sort(
    (a, b) =>
      order(a.protocol, b.protocol) ||
      (Number(a.port) || Number.MAX_SAFE_INTEGER) - (Number(b.port) || Number.MAX_SAFE_INTEGER) ||
      order(a.address, b.address) ||
      order(a.processes.join(), b.processes.join()),
  )
}

/** Loopback and wildcards mean the same in every clone; any other address was the build's. */
function addressOf(local: string): string {
  const address = local.replace(/%.*$/, '').replace(/^\[(.*?)\](%.*)?$/, '$1')
  return /^(127\.|::1$|0\.0\.0\.0$|::$|\*$)/.test(address) ? address : 'own'
}

function files(text: string): Pick<Manifest, 'privileged' | 'capabilitiesRead' | 'size'> {
  const found = new Map<string, PrivilegedFile>()
  let size = 0
  let capabilitiesRead = true
  for (const record of text.split('\0')) {
    const [what, value = '', owner = '', ...path] = record.split('\t')
    const name = path.join('\t')
    if (what === 'size') size = Number(value)
    else if (what === 'no-capabilities') capabilitiesRead = false
    else if (what === 'setuid') found.set(name, { ...found.get(name), path: name, mode: value, owner })
    else if (what === 'capability')
      found.set(name, { ...found.get(name), path: name, capabilities: capabilityText(value) })
  }
  return { privileged: [...found.values()].sort((a, b) => order(a.path, b.path)), capabilitiesRead, size }
}

function units(text: string): Record<string, 'enabled' | 'masked'> {
  return sorted(
    lines(text).flatMap((line): [string, 'enabled' | 'masked'][] => {
      const [unit = '', state] = line.trim().split(/\s+/)
      return state === 'enabled' || state === 'masked' ? [[unit, state]] : []
    }),
  )
}

function users(passwd: string, buildUser: string): Manifest['users'] {
  return lines(passwd)
    .map((line) => line.split(':'))
    .map(([name = '', , uid, , , , shell = '']) => ({ name, uid: Number(uid), shell: shell || '/bin/sh' }))
    .filter(
      ({ name, shell }) => !/\/(nologin|false|sync)$/.test(shell) && (name === 'root' || name !== buildUser),
    )
    .sort((a, b) => order(a.name, b.name))
}
