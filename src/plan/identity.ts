import { createHash } from 'node:crypto'

/** A JSON value in the sense of RFC 8259. */
export type Json =
  | null
  | boolean
  | number
  | string
  | readonly Json[]
  | { readonly [key: string]: Json | undefined }

/**
 * One text for one value: keys in code point order, no white space, undefined members left out (the idea of
 * RFC 8785, for the JSON that this program itself makes: no floats other than those JSON.stringify prints).
 */
export function canonicalJson(value: Json): string {
  if (value === null || typeof value !== 'object') return JSON.stringify(value)
  if (Array.isArray(value)) return `[${value.map((item) => canonicalJson(item)).join(',')}]`
  const members = Object.entries(value as { [key: string]: Json | undefined })
    .filter((entry): entry is [string, Json] => entry[1] !== undefined)
    .sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0))
  return `{${members.map(([key, item]) => `${JSON.stringify(key)}:${canonicalJson(item)}`).join(',')}}`
}

export type Digest = `sha256:${string}`

export function digestOf(value: Json): Digest {
  return digestBytes(canonicalJson(value))
}

export function digestBytes(bytes: string | Uint8Array): Digest {
  return `sha256:${createHash('sha256').update(bytes).digest('hex')}`
}

/**
 * A number in [0, count) that depends on `parts` alone: the same on every machine and in every run. The first
 * 48 bits of SHA-256 modulo `count`; for the counts here (thousands) the bias is below 1 in 10^10.
 */
export function choose(count: number, ...parts: readonly string[]): number {
  return createHash('sha256').update(canonicalJson(parts)).digest().readUIntBE(0, 6) % count
}
