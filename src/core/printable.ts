/**
 * The one place through which text from outside goes before it is shown: what guests and programs print, names, messages,
 * task states and versions that a server gives, what stands in a user's files. Colours of our own are put on afterwards.
 */

/** What stands where a character was that must not reach a terminal. */
export const REPLACEMENT = '\ufffd'

/** All control characters but newline and tab. */
const CONTROL = '\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f'

/** What changes the order in which characters are shown (UAX #9), and Unicode's own line ends. */
const REORDERING = '\\u061c\\u200e\\u200f\\u2028-\\u202e\\u2066-\\u2069'

/**
 * Complete escape sequences (ECMA-48): CSI; strings such as those that set a window's title, up to their end; and short ones.
 * What is incomplete is left to `FORBIDDEN`. A string has no control character in it, so that each one is looked at once only.
 */
const SEQUENCE = [
  '(?:\\x1b\\[|\\x9b)[0-?]*[ -/]*[@-~]',
  `(?:\\x1b[P\\]X^_]|[\\x90\\x98\\x9d-\\x9f])[^\\n${CONTROL}]*(?:\\x07|\\x1b\\\\|\\x9c)`,
  '\\x1b[ -/]+[0-~]',
  '\\x1b[0-OQ-WYZ\\\\`-~]',
].join('|')

const FORBIDDEN = new RegExp(`[${CONTROL}${REORDERING}]`)
const ESCAPES = new RegExp(`${SEQUENCE}|\\r+(?=\\n|$)|([${CONTROL}${REORDERING}])`, 'g')

/** Characters that nobody sees; `REPLACEMENT` stands for such a one. */
const INVISIBLE = `${CONTROL}\\n${REORDERING}\\u00ad\\u180e\\u200b-\\u200d\\u2060-\\u2064\\u206a-\\u206f\\ufeff\\ufff9-\\ufffb${REPLACEMENT}`

/** Each matches what nobody reads in a text: the sequences, newlines, and characters without a shape. */
export const HAS_UNREAD = new RegExp(`[${INVISIBLE}]`)
export const UNREAD = new RegExp(`${SEQUENCE}|[${INVISIBLE}]`, 'g')
/** The single characters among them: all that is unread where each character was escaped on its own. */
export const UNREAD_CHARACTERS = new RegExp(`[${INVISIBLE}]`, 'g')

/**
 * The text without anything that could steer a terminal: complete escape sequences are taken out, every other control
 * character but newline and tab is replaced. What remains has none, so that a second time changes nothing.
 */
export function printable(text: string): string {
  if (!FORBIDDEN.test(text)) return text
  return text.replace(ESCAPES, (_all, single?: string) => (single === undefined ? '' : REPLACEMENT))
}

/** The same for what must stay one line: a cell of a table, a name. */
export function oneLine(text: string): string {
  return printable(text).replace(/[\n\t]+/g, ' ')
}

/** A text of our own that has colours in it (SGR), whose parts from outside were made printable before they got them. */
export function printableStyled(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: it is what colours are made of
  const parts = text.split(/(\x1b\[[0-9;]*m)/)
  return parts.map((part, index) => (index % 2 === 1 ? part : printable(part))).join('')
}

/** JSON text, with what `JSON.stringify` leaves as it is and a terminal would obey written as escapes: it stays the same JSON. */
export function printableJson(json: string): string {
  if (!FORBIDDEN.test(json)) return json
  return json.replace(
    new RegExp(FORBIDDEN, 'g'),
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  )
}

/** A JSON-like value with all its strings changed; a list of nothing but strings may be changed as a whole. */
export function mapStrings<T>(
  value: T,
  one: (text: string) => string,
  list: (texts: readonly string[]) => string[] = (texts) => texts.map(one),
): T {
  if (typeof value === 'string') return one(value) as T
  if (Array.isArray(value)) {
    const texts = value.every((item) => typeof item === 'string')
    return (texts ? list(value) : value.map((item) => mapStrings(item, one, list))) as T
  }
  if (value !== null && typeof value === 'object' && Object.getPrototypeOf(value) === Object.prototype) {
    return Object.fromEntries(
      Object.entries(value).map(([key, item]) => [key, mapStrings(item, one, list)]),
    ) as T
  }
  return value
}
