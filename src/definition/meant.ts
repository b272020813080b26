import { closest } from '../core/did-you-mean.ts'

/** How to write what was most likely meant. */

/** What other tools call it, by key and by value. */
const OTHER_WORDS: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  kind: {
    ...{ qemu: 'vm', kvm: 'vm', machine: 'vm', 'virtual-machine': 'vm' },
    ...{ ct: 'lxc', container: 'lxc' },
    ...{ proxmox: 'pve', 'proxmox-ve': 'pve' },
  },
  bios: { uefi: 'ovmf', efi: 'ovmf', bios: 'seabios' },
  architecture: { x86_64: 'amd64', 'x86-64': 'amd64', aarch64: 'arm64' },
}

export function didYouMean(key: string, typed: string, known: readonly string[]): string | undefined {
  const other = OTHER_WORDS[key]?.[typed.toLowerCase()]
  const guess = other !== undefined && known.includes(other) ? other : closest(typed, known)
  return guess === undefined ? undefined : `did you mean \`${guess}\`?`
}

/** A text where a list is needed: its words are the items. */
export function asList(key: string, typed: string): string {
  return `did you mean a list: \`${key}: [${typed
    .split(/[\s,]+/)
    .filter(Boolean)
    .join(', ')}]\`?`
}

/** A list where a map is needed: its items are the keys, whose values only the user knows. */
export function asMap(key: string, items: readonly unknown[]): string | undefined {
  const [value = '<value>', why = ''] =
    key === 'except' ? ['<the reason>', ', each item with its reason'] : []
  const entries = items.flatMap((item) => {
    if (typeof item === 'string') return [`${item}: ${value}`]
    if (typeof item !== 'object' || item === null) return []
    return Object.entries(item).map(([name, said]) => `${name}: ${String(said)}`)
  })
  return entries.length === 0 ? undefined : `did you mean a map${why}: \`${key}: { ${entries.join(', ')} }\`?`
}
