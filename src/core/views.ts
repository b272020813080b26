import { HAS_UNREAD, UNREAD } from './printable.ts'

/** A text as it is read: without what nobody sees, or with its escapes decoded; and where each character stands in the text itself. */
export interface View {
  text: string
  /** missing where the text is its own view; a function, as few texts have a secret in them */
  places?: () => Places
}

/** First place of each character, and the place behind it. */
interface Places {
  from: number[]
  to: number[]
}

export function asRead(text: string): View {
  return HAS_UNREAD.test(text) ? decoded({ text }, UNREAD, () => '') : { text }
}

/** How single characters may be escaped. */
export interface Escaping {
  isIn(text: string): boolean
  /** the beginning of an escape at the end of a text */
  cut: RegExp
  decode(view: View): View
}

/** `%2F`, each of them a byte. */
const PERCENT: Escaping = {
  isIn: (text) => text.includes('%') && /%([0-9a-f]{2}|[0-9a-f]?$)/i.test(text),
  cut: /%[0-9a-f]?$/i,
  decode: (view) => decoded(view, /%[0-9a-f]{2}/gi, (written) => character(written.slice(1))),
}

/** `\"` and `\u0022`; JSON in JSON has more backslashes, so all of them are left out. */
const BACKSLASH: Escaping = {
  isIn: (text) => text.includes('\\'),
  cut: /\\+(u[0-9a-f]{0,3})?$/i,
  decode: (view) =>
    decoded(view, /\\+(?:u[0-9a-f]{4})?/gi, (written) => {
      const code = written.slice(written.lastIndexOf('\\') + 2)
      return code === '' ? '' : character(code)
    }),
}

export const ESCAPINGS = [PERCENT, BACKSLASH] as const

/** A view whose text goes on with the beginning of an escape that stands in the line before. */
export function continued(view: View, before: string): View {
  if (before === '') return view
  const none = Array.from({ length: before.length }, () => 0)
  const places = () => {
    const { from, to } = placesOf(view)
    return { from: [...none, ...from], to: [...none, ...to] }
  }
  return { text: before + view.text, places }
}

function placesOf({ text, places }: View): Places {
  if (places !== undefined) return places()
  const from = Array.from({ length: text.length }, (_, at) => at)
  return { from, to: from.map((at) => at + 1) }
}

function character(hex: string): string {
  return String.fromCharCode(Number.parseInt(hex, 16)).replace(UNREAD, '')
}

/** What the expression finds is replaced by the character that it means, or by nothing. */
function decoded(view: View, escaped: RegExp, meaning: (written: string) => string): View {
  return {
    text: view.text.replace(escaped, meaning),
    places: () => decodedPlaces(view, escaped, meaning),
  }
}

function decodedPlaces(view: View, escaped: RegExp, meaning: (written: string) => string): Places {
  const before = placesOf(view)
  const [from, to]: [number[], number[]] = [[], []]
  let at = 0
  const copyTo = (end: number) => {
    for (; at < end; at++) {
      from.push(before.from[at] ?? 0)
      to.push(before.to[at] ?? 0)
    }
  }
  for (const match of view.text.matchAll(escaped)) {
    copyTo(match.index)
    at += match[0].length
    if (meaning(match[0]) === '') continue
    from.push(before.from[match.index] ?? 0)
    to.push(before.to[at - 1] ?? 0)
  }
  copyTo(view.text.length)
  return { from, to }
}
