import type { Rule } from './parameters.ts'

/**
 * Proxmox's property strings: `local:100/disk.qcow2,discard=on,size=3G`. One property may be written without
 * its key (the default key), and an alias such as `virtio=<mac>` may stand for two properties at once.
 */
export interface PropertyFormat {
  /** the property that may be written without its key */
  defaultKey?: string
  /** other names: `volume` → `file` */
  aliases?: Record<string, string>
  /** keys that set two properties: `virtio=AA:…` is model=virtio and macaddr=AA:… */
  keyAliases?: { keys: readonly string[]; key: string; value: string }
  properties: Record<string, Rule>
}

export type Properties = Record<string, string>

const TRUE = /^(1|on|yes|true)$/i
const FALSE = /^(0|off|no|false)$/i

/** Splits into properties. @throws Error with Proxmox's text, where the string has no such form */
export function parseProperties(text: string, format: PropertyFormat): Properties {
  const found: Properties = {}
  const set = (key: string, value: string) => {
    if (key in found) throw new Error(`duplicate key in comma-separated list property: ${key}`)
    found[key] = format.properties[key]?.type === 'boolean' ? normalBoolean(value) : value
  }
  for (const part of text.split(',')) {
    if (/^\s*$/.test(part)) continue
    const match = /^([^=]+)=(.+)$/s.exec(part)
    if (match) {
      const key = match[1] as string
      const value = match[2] as string
      const alias = format.keyAliases
      if (alias?.keys.includes(key)) {
        set(alias.key, key)
        set(alias.value, value)
      } else set(format.aliases?.[key] ?? key, value)
    } else if (part.includes('=')) {
      throw new Error(`missing key in comma-separated list property`)
    } else if (format.defaultKey === undefined) {
      throw new Error(`value without key, but schema does not define a default key`)
    } else set(format.defaultKey, part)
  }
  return found
}

function normalBoolean(value: string): string {
  if (TRUE.test(value)) return '1'
  return FALSE.test(value) ? '0' : value
}

/** The string again: default key first and bare, or the alias pair; then what must be there, then the rest, by name. */
export function printProperties(properties: Properties, format: PropertyFormat): string {
  const rest = { ...properties }
  const parts: string[] = []
  const alias = format.keyAliases
  if (alias && rest[alias.key] !== undefined && rest[alias.value] !== undefined) {
    parts.push(`${rest[alias.key]}=${rest[alias.value]}`)
    delete rest[alias.key]
    delete rest[alias.value]
  } else if (format.defaultKey !== undefined && rest[format.defaultKey] !== undefined) {
    parts.push(rest[format.defaultKey] as string)
    delete rest[format.defaultKey]
  }
  const optional = (key: string) => Number(format.properties[key]?.optional ?? false)
  const order = (a: string, b: string) => optional(a) - optional(b) || (a < b ? -1 : 1)
  for (const key of Object.keys(rest).sort(order)) parts.push(`${key}=${rest[key]}`)
  return parts.join(',')
}
