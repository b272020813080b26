import { UNREAD, UNREAD_CHARACTERS } from './printable.ts'

/** The forms in which a secret may turn up in a text. Escapes of single characters are `views.ts`'s. */
export interface Form {
  text: string
  /** so much of its beginning, at the end of a line, is taken for the secret: as much as stands for four characters */
  tellsFrom: number
}

/** A value or form that is shorter is not looked for: it would blot out half of the log and protects nothing. */
export const SHORTEST = 4

export function formsOf(value: string): Form[] {
  const bytes = Buffer.from(value)
  const hex = bytes.toString('hex')
  const forms: Form[] = [
    ...[value, value.replaceAll(' ', '+'), withoutBackslashes(value)].flatMap((text) => [
      { text, tellsFrom: SHORTEST },
      // As percent-encoding has it: bytes.
      { text: Buffer.from(text).toString('latin1'), tellsFrom: SHORTEST },
    ]),
    ...[hex, hex.toUpperCase()].map((text) => ({ text, tellsFrom: 2 * SHORTEST })),
    ...[0, 1, 2].flatMap((before) =>
      (['base64', 'base64url'] as const).map((encoding) => ({
        text: base64Core(bytes, before, encoding),
        tellsFrom: Math.ceil((4 * SHORTEST) / 3),
      })),
    ),
  ]
  // Escaped (%9B, \u001b) a control character begins no sequence: what follows it is still read.
  const read = forms.flatMap(({ text, tellsFrom }) =>
    [UNREAD, UNREAD_CHARACTERS].map((unread) => ({ text: text.replace(unread, ''), tellsFrom })),
  )
  return read.filter(({ text }) => text.length >= SHORTEST)
}

/** As JSON escapes it, however often, once the backslashes are left out; shells that quote by backslashes do the same. */
function withoutBackslashes(value: string): string {
  return JSON.stringify(value).slice(1, -1).replaceAll('\\', '')
}

/** What base64 makes of these bytes whatever stands before and behind them. @param before how many bytes do, modulo 3 */
function base64Core(bytes: Buffer, before: number, encoding: 'base64' | 'base64url'): string {
  const padded = Buffer.concat([Buffer.alloc(before), bytes])
  // Six bits a character: one that holds bits of a neighbour belongs to the neighbour too.
  return padded.toString(encoding).slice(Math.ceil((before * 8) / 6), Math.floor((padded.length * 8) / 6))
}
