import type { ContainerNic } from '../../world.ts'
import type { Tree } from './tree.ts'

const FILE = '/etc/network/interfaces'
/** Words that begin a stanza of interfaces(5). */
const STANZA =
  /^\s*(?:auto|allow-\S+|no-auto-down|no-scripts|iface|mapping|source|source-directory|template)\b/

/** Debian's /etc/network/interfaces: our interfaces anew, those of others as they are. */
export async function setInterfaces(tree: Tree, nics: readonly ContainerNic[]): Promise<void> {
  const ours = new Set(['lo', ...nics.map(({ name }) => name)])
  const others = stanzas((await tree.read(FILE)) ?? '').filter((lines) => !concerns(lines[0] ?? '', ours))
  const text = [['auto lo', 'iface lo inet loopback'], ...nics.flatMap(interfaceStanzas), ...others]
  await tree.write(FILE, `${text.map((lines) => lines.join('\n')).join('\n\n')}\n`)
}

function interfaceStanzas({ name, ip, gw, ip6, gw6, options }: ContainerNic): string[][] {
  const detail = (key: string, value: string | undefined) => (value ? [`\t${key} ${value}`] : [])
  const mtu = detail('mtu', options.mtu)
  const stanza = (family: string, address: string | undefined, gateway: string | undefined): string[][] => {
    if (address === undefined || address === '') return []
    if (['dhcp', 'manual', 'auto'].includes(address)) return [[`iface ${name} ${family} ${address}`, ...mtu]]
    const lines = [...detail('address', address), ...detail('gateway', gateway), ...mtu]
    return [[`iface ${name} ${family} static`, ...lines]]
  }
  const configured = [...stanza('inet', ip, gw), ...stanza('inet6', ip6, gw6)]
  return [[`auto ${name}`], ...(configured.length > 0 ? configured : [[`iface ${name} inet manual`]])]
}

function concerns(first: string, names: ReadonlySet<string>): boolean {
  const [word = '', ...rest] = first.trim().split(/\s+/)
  if (word === 'iface') return names.has(rest[0] ?? '')
  return /^(?:auto|allow-)/.test(word) && rest.every((name) => names.has(name))
}

/** The file's stanzas without comments, which could not be told whose they are. */
function stanzas(text: string): string[][] {
  const found: string[][] = []
  for (const line of text.split('\n')) {
    if (line.trim() === '' || line.trim().startsWith('#')) continue
    if (STANZA.test(line) || found.length === 0) found.push([line])
    else found.at(-1)?.push(line)
  }
  return found
}
