import type { Entry, Kind } from './entry.ts'
import { HEADER_LIMIT } from './limits.ts'
import { LONGEST_PATH, normalisePath } from './names.ts'
import { type PaxRecords, parsePax } from './pax.ts'
import { Refusal } from './refusal.ts'

/** What tar-stream made of a header; names in it are right only where no extended header has another. */
export interface ReadHeader {
  name: string
  type: string | null
  linkname: string | null
  mode: number
  uid: number
  gid: number
  size: number
  mtime: Date
}

const KINDS: Record<string, Kind> = {
  file: 'file',
  link: 'hardlink',
  symlink: 'symlink',
  directory: 'directory',
  fifo: 'fifo',
  'character-device': 'device',
  'block-device': 'device',
}

const BLOCK = 512
const NONE: Entry['attributes'] = []

/**
 * An entry out of its headers: what tar-stream read, and the bytes that it read it from.
 * @throws Refusal naming the entry
 */
export function readHeader(header: ReadHeader, raw: Buffer): Entry {
  let name = header.name
  try {
    const { records, longName, longTarget } = raw.length === BLOCK ? PLAIN : extendedHeaders(raw)
    name = records.get('path') ?? longName ?? name
    const place = normalisePath(name)
    if ('refused' in place) throw new Refusal(place.refused)
    const kind = header.type === null ? undefined : KINDS[header.type]
    if (kind === undefined) {
      throw new Refusal(`it is of a type that no root file system has (${JSON.stringify(typeOf(raw))})`)
    }
    if (number(records, 'size', header.size) !== header.size) {
      throw new Refusal('its headers do not agree about its size')
    }
    if (kind !== 'file' && header.size !== 0) throw new Refusal(`it is a ${kind} with contents`)
    if (kind === 'file' && name.endsWith('/')) throw new Refusal('it is a file with the name of a directory')
    const link = records.get('linkpath') ?? longTarget ?? header.linkname ?? ''
    return {
      path: place.path,
      name,
      kind,
      mode: number(NO_RECORDS, 'mode', header.mode) & 0o7777,
      uid: number(records, 'uid', header.uid),
      gid: number(records, 'gid', header.gid),
      mtime: seconds(records.get('mtime'), header.mtime.getTime() / 1000),
      size: header.size,
      target: kind === 'symlink' ? symlinkTarget(link) : kind === 'hardlink' ? hardlinkTarget(link) : '',
      attributes: records.size === 0 ? NONE : attributesOf(records),
    }
  } catch (error) {
    if (error instanceof Refusal) throw new Refusal(error.message, name, { cause: error })
    throw error
  }
}

interface Extended {
  records: PaxRecords
  longName?: string
  longTarget?: string
}

const NO_RECORDS: PaxRecords = new Map()
const PLAIN: Extended = { records: NO_RECORDS }

function typeOf(raw: Buffer): string {
  return String.fromCharCode(raw[raw.length - BLOCK + 156] as number)
}

/** The headers before the last block, which is the entry's own. */
function extendedHeaders(raw: Buffer): Extended {
  if (raw.length > HEADER_LIMIT)
    throw new Refusal(`its headers are larger than ${HEADER_LIMIT / 2 ** 20} MiB`)
  const found: Extended = { records: new Map() }
  let at = 0
  while (at < raw.length - BLOCK) {
    const block = raw.subarray(at, at + BLOCK)
    if (block.every((byte) => byte === 0)) throw new Refusal('it comes after the end of the archive')
    const size = block.toString('latin1', 124, 136)
    if (!/^ *[0-7]+[ \0]*$/.test(size)) throw new Refusal('the size of an extended header is no number')
    const length = Number.parseInt(size, 8)
    const body = raw.subarray(at + BLOCK, at + BLOCK + length)
    const type = String.fromCharCode(block[156] as number)
    if (type === 'x') parsePax(body, found.records)
    else if (type === 'L') found.longName = untilNul(body)
    else if (type === 'K') found.longTarget = untilNul(body)
    else if (type === 'g') checkGlobal(body)
    else throw new Refusal(`its extended header is of an unknown type (${JSON.stringify(type)})`)
    at += BLOCK + Math.ceil(length / BLOCK) * BLOCK
  }
  if (at !== raw.length - BLOCK) throw new Refusal('the sizes of its extended headers do not fit')
  for (const key of found.records.keys()) {
    if (key.startsWith('GNU.sparse.') || key.startsWith('SCHILY.realsize')) {
      throw new Refusal('it is stored as a sparse file; make the archive without --sparse')
    }
  }
  return found
}

/** `git archive` puts its commit there; anything else would change every entry that follows. */
function checkGlobal(body: Buffer): void {
  const records: PaxRecords = new Map()
  parsePax(body, records)
  for (const key of records.keys()) {
    if (key !== 'comment') throw new Refusal(`a global pax header before it sets ${JSON.stringify(key)}`)
  }
}

function untilNul(bytes: Buffer): string {
  const end = bytes.indexOf(0)
  return bytes.toString('latin1', 0, end < 0 ? bytes.length : end)
}

function number(records: PaxRecords, key: string, fallback: number): number {
  const text = records.get(key)
  const value = text === undefined ? fallback : /^\d{1,15}$/.test(text) ? Number(text) : Number.NaN
  if (!Number.isSafeInteger(value) || value < 0) throw new Refusal(`its ${key} is no number`)
  return value
}

/** Fractions are cut, since not every producer writes them; what is older than 1970 becomes 1970. */
function seconds(text: string | undefined, fallback: number): number {
  const value = text === undefined ? fallback : /^-?\d{1,15}(\.\d*)?$/.test(text) ? Number(text) : Number.NaN
  if (!Number.isFinite(value)) throw new Refusal('its mtime is no number')
  return Math.max(0, Math.floor(value))
}

function symlinkTarget(link: string): string {
  if (link === '') throw new Refusal('it is a symlink to nowhere')
  if (link.includes('\0')) throw new Refusal('its target has a NUL in it')
  if (link.length > LONGEST_PATH) throw new Refusal(`its target is longer than ${LONGEST_PATH} bytes`)
  return link
}

function hardlinkTarget(link: string): string {
  const target = normalisePath(link)
  if ('refused' in target)
    throw new Refusal(`it is a hard link, and of its target is true: ${target.refused}`)
  return target.path
}

/** What GNU tar restores: attributes and ACLs. Names of owners, other times and inode numbers are left behind. */
function attributesOf(records: PaxRecords): Entry['attributes'] {
  const kept = new Map<string, string>()
  for (const [key, value] of records) {
    // bsdtar writes each attribute twice; this one only counts where the other is missing.
    const encoded = /^LIBARCHIVE\.xattr\.(.+)$/.exec(key)?.[1]
    if (encoded !== undefined) {
      const plain = `SCHILY.xattr.${encoded.replace(/%([0-9A-Fa-f]{2})/g, (_, hex) => String.fromCharCode(Number.parseInt(hex, 16)))}`
      if (!records.has(plain)) kept.set(plain, Buffer.from(value, 'base64').toString('latin1'))
    } else if (/^(SCHILY\.(xattr|acl)|RHT\.security)\../.test(key)) kept.set(key, value)
  }
  return [...kept].sort(([a], [b]) => (a < b ? -1 : 1))
}
