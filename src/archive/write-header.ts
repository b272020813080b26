import { isUtf8 } from 'node:buffer'
import type { Entry, Kind } from './entry.ts'
import { encodePax } from './pax.ts'

const BLOCK = 512
/** The largest numbers that fit into 7 and 11 octal digits. */
const SHORT = 0o7777777
const LONG = 0o77777777777

const TYPES: Record<Exclude<Kind, 'device'>, string> = {
  file: '0',
  hardlink: '1',
  symlink: '2',
  directory: '5',
  fifo: '6',
}

/**
 * The one form that an entry has in our archives: a ustar header, and a pax header before it with what does not fit
 * there, always in the same order. No names of owners, no times but mtime, every path below `./`: Proxmox leaves
 * out `./dev/*` when it unpacks.
 *
 * Not tar-stream's writer: that one knows text only (a capability would come out broken), cuts user IDs above 2097151, and
 * ends in 2038.
 */
export function encodeHeader(entry: Entry): Buffer {
  const path = `./${entry.path}${entry.kind === 'directory' && entry.path !== '' ? '/' : ''}`
  const target = entry.kind === 'hardlink' ? `./${entry.target}` : entry.target
  const records: [string, string][] = []
  const split = ascii(path) || !utf8(path) ? splitPath(path) : undefined
  if (!split) records.push(['path', path])
  const fits = target.length <= 100 && (ascii(target) || !utf8(target))
  if (!fits) records.push(['linkpath', target])
  if (entry.size > LONG) records.push(['size', String(entry.size)])
  if (entry.uid > SHORT) records.push(['uid', String(entry.uid)])
  if (entry.gid > SHORT) records.push(['gid', String(entry.gid)])
  if (entry.mtime > LONG) records.push(['mtime', String(entry.mtime)])
  // Only these are ever other than UTF-8, and readers are to be told.
  if (records.some(([, value]) => !utf8(value))) records.unshift(['hdrcharset', 'BINARY'])
  records.push(...(entry.attributes as [string, string][]))

  // Readers that know pax take the name from there; for others it is cut.
  const [prefix, name] = split ?? ['', path.slice(0, 100)]
  const own = block(
    {
      ...entry,
      uid: entry.uid > SHORT ? 0 : entry.uid,
      gid: entry.gid > SHORT ? 0 : entry.gid,
      mtime: entry.mtime > LONG ? 0 : entry.mtime,
      size: entry.size > LONG ? 0 : entry.size,
    },
    TYPES[entry.kind as keyof typeof TYPES],
    name,
    prefix,
    fits ? target : target.slice(0, 100),
  )
  if (records.length === 0) return own
  const pax = encodePax(records)
  const before = block(
    { mode: 0o644, uid: 0, gid: 0, mtime: 0, size: pax.length },
    'x',
    './PaxHeaders',
    '',
    '',
  )
  return Buffer.concat([before, pax, Buffer.alloc(-pax.length & (BLOCK - 1)), own])
}

type Numbers = Pick<Entry, 'mode' | 'uid' | 'gid' | 'mtime' | 'size'>

function block(numbers: Numbers, type: string, name: string, prefix: string, target: string): Buffer {
  const bytes = Buffer.alloc(BLOCK)
  bytes.write(name, 0, 'latin1')
  bytes.write(octal(numbers.mode, 7), 100, 'latin1')
  bytes.write(octal(numbers.uid, 7), 108, 'latin1')
  bytes.write(octal(numbers.gid, 7), 116, 'latin1')
  bytes.write(octal(numbers.size, 11), 124, 'latin1')
  bytes.write(octal(numbers.mtime, 11), 136, 'latin1')
  bytes.write('        ', 148, 'latin1')
  bytes.write(type, 156, 'latin1')
  bytes.write(target, 157, 'latin1')
  bytes.write('ustar\x0000', 257, 'latin1')
  bytes.write('0000000', 329, 'latin1')
  bytes.write('0000000', 337, 'latin1')
  bytes.write(prefix, 345, 'latin1')
  let sum = 0
  for (const byte of bytes) sum += byte
  bytes.write(`${octal(sum, 6)}\0 `, 148, 'latin1')
  return bytes
}

function octal(value: number, digits: number): string {
  return value.toString(8).padStart(digits, '0')
}

/** A path in the two fields of ustar, if it fits there: at most 155 and 100 bytes, parted at a slash. */
function splitPath(path: string): [prefix: string, name: string] | undefined {
  if (path.length <= 100) return ['', path]
  // A closing slash belongs to the name.
  const at = path.indexOf('/', path.length - 101)
  return at > 0 && at <= 155 && at < path.length - 1 ? [path.slice(0, at), path.slice(at + 1)] : undefined
}

function ascii(text: string): boolean {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: all of ASCII is meant
  return /^[\x00-\x7f]*$/.test(text)
}

function utf8(text: string): boolean {
  return ascii(text) || isUtf8(Buffer.from(text, 'latin1'))
}
