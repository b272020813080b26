/** Text from outside in Markdown: it shows what it is, and does nothing. */

/** Invisible, and between these characters enough that neither GitHub nor Forgejo sees a mention or a reference. */
const APART = '\u200b'
const MENTIONS = /(@|#|\bGH-)(?=[\p{L}\p{N}_])/giu
/** Control characters, and those that turn the direction of text or cannot be seen. */
const INVISIBLE = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]+/gu
/** All of ASCII that can mean something in Markdown, HTML, a link or an emoji's name; CommonMark lets each be escaped. */
const MEANINGFUL = /[\\`*_{}[\]<>#!|~&:.$@^]/g

/** Words of one line. */
export function plain(text: string): string {
  return oneLine(text)
    .replace(MENTIONS, `$1${APART}`)
    .replace(MEANINGFUL, (character) => `\\${character}`)
}

/** A name or a version, as code. */
export function code(text: string): string {
  const line = oneLine(text)
  // Where a row of a table ends is decided before code is.
  if (line === '' || /[|\\]/.test(line)) return plain(line)
  const fence = '`'.repeat(longestRun(line) + 1)
  const pad = line.startsWith('`') || line.endsWith('`') ? ' ' : ''
  return `${fence}${pad}${line}${pad}${fence}`
}

/** Lines to copy. */
export function codeBlock(lines: readonly string[], language: string): string[] {
  const text = lines.map(oneLine)
  const fence = '`'.repeat(Math.max(3, longestRun(text.join('\n')) + 1))
  return [`${fence}${language}`, ...text, fence]
}

/** At most so many characters, the last of which say that something was cut. */
export function cutText(text: string, limit: number): string {
  if (text.length <= limit) return text
  const said = ` … (cut at ${limit} characters)`
  const short = said.length < limit / 2 ? said : '…'
  // No half of a character that takes two of JavaScript's units.
  return `${text.slice(0, limit - short.length).replace(/[\ud800-\udbff]$/, '')}${short}`
}

/** At most so many bytes of UTF-8. */
export function cutBytes(text: string, limit: number): string {
  const bytes = Buffer.from(text)
  if (bytes.length <= limit) return text
  const said = ` … (cut at ${limit} bytes)`
  // No part of a character: its first byte is the only one that does not begin with the bits 10.
  let end = limit - Buffer.byteLength(said)
  while (((bytes[end] ?? 0) & 0xc0) === 0x80) end--
  return `${bytes.subarray(0, end)}${said}`
}

function oneLine(text: string): string {
  return text.replace(INVISIBLE, ' ').trim()
}

function longestRun(text: string): number {
  return Math.max(0, ...[...text.matchAll(/`+/g)].map(([run]) => run.length))
}
