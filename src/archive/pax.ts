import { Refusal } from './refusal.ts'

/** Records of a pax header, in the order of the archive; values are bytes as latin1. */
export type PaxRecords = Map<string, string>

/**
 * Reads records, each `<length> <key>=<value>\n` with the length over all of it.
 * @throws Refusal where lengths do not fit
 */
export function parsePax(bytes: Buffer, into: PaxRecords): void {
  const text = bytes.toString('latin1')
  let at = 0
  while (at < text.length) {
    const space = text.indexOf(' ', at)
    const digits = space < 0 ? '' : text.slice(at, space)
    const end = at + Number(digits)
    const equals = text.indexOf('=', space)
    if (!/^[1-9]\d{0,9}$/.test(digits) || end > text.length || text[end - 1] !== '\n') {
      throw new Refusal('its pax header is broken: a record is not as long as it says')
    }
    if (equals < 0 || equals >= end || equals === space + 1) {
      throw new Refusal('its pax header is broken: a record has no key')
    }
    into.set(text.slice(space + 1, equals), text.slice(equals + 1, end - 1))
    at = end
  }
}

/** Records as the bytes of a pax header. */
export function encodePax(records: Iterable<readonly [key: string, value: string]>): Buffer {
  let text = ''
  for (const [key, value] of records) {
    const rest = key.length + value.length + 3
    // The length counts its own digits.
    let length = rest + String(rest).length
    length = rest + String(length).length
    text += `${length} ${key}=${value}\n`
  }
  return Buffer.from(text, 'latin1')
}
