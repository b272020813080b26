import { type Form, SHORTEST } from './secret-forms.ts'
import { asRead, continued, ESCAPINGS, type View } from './views.ts'

/**
 * Finds secrets in what is read, not in what is written: colour codes, newlines and characters without a shape do not
 * count, and escapes count as what they mean. One pass over the text, whatever the number of secrets.
 */

/** What stands for a secret in all output. */
export const REDACTED = '••••••'

/** A form whose first `read` characters were the end of the text so far. */
interface Begun {
  form: Form
  read: number
}

/** What is to be known of the lines before. */
interface Progress {
  /** the last characters, too few to begin a form */
  tail: string
  begun: readonly Begun[]
}

const NOTHING: Progress = { tail: '', begun: [] }

interface Found {
  /** half-open ranges of the text */
  ranges: [number, number][]
  /** where something begins that the next line may complete to a secret; Infinity where there is none */
  unfinished: number
  next: Progress
}

/** Bits of the table that tells at once that no form begins with these four characters. */
const TABLE_BITS = 18

export class Matcher {
  readonly #table = new Uint8Array(1 << TABLE_BITS)
  readonly #forms = new Map<number, Form[]>()

  constructor(forms: readonly Form[]) {
    const once = new Map(forms.map((form) => [form.text, form]))
    for (const form of once.values()) {
      let beginning = 0
      for (let at = 0; at < SHORTEST; at++) beginning = (beginning << 8) ^ form.text.charCodeAt(at)
      this.#table[slot(beginning)] = 1
      this.#forms.set(beginning, [...(this.#forms.get(beginning) ?? []), form])
    }
  }

  find(text: string, { tail, begun }: Progress = NOTHING): Found {
    const found: Found = { ranges: [], unfinished: Number.POSITIVE_INFINITY, next: NOTHING }
    const open: Begun[] = []
    const follow = ({ form, read }: Begun, whole: string, at: number, offset: number) => {
      const start = Math.max(0, at - offset)
      const rest = form.text.length - read
      if (whole.length - at >= rest) {
        if (whole.startsWith(read === 0 ? form.text : form.text.slice(read), at)) {
          found.ranges.push([start, at - offset + rest])
        }
      } else if (form.text.startsWith(whole.slice(at), read)) {
        const now = read + whole.length - at
        open.push({ form, read: now })
        if (now >= form.tellsFrom) found.unfinished = Math.min(found.unfinished, start)
      }
    }
    for (const one of begun) follow(one, text, 0, 0)
    const whole = tail + text
    let last = 0
    for (let at = 0; at < whole.length; at++) {
      // Eight bits a character in 32: after four steps a character has left it.
      last = (last << 8) ^ whole.charCodeAt(at)
      if (this.#table[slot(last)] === 0 || at < SHORTEST - 1) continue
      for (const form of this.#forms.get(last) ?? []) {
        follow({ form, read: 0 }, whole, at - SHORTEST + 1, tail.length)
      }
    }
    found.next = { tail: whole.slice(1 - SHORTEST), begun: open }
    return found
  }
}

function slot(beginning: number): number {
  return (beginning ^ (beginning >>> (32 - TABLE_BITS))) & ((1 << TABLE_BITS) - 1)
}

/** A text that is complete. */
export function redactText(matcher: Matcher, text: string): string {
  const plain = asRead(text)
  const views = [plain, ...ESCAPINGS.filter((one) => one.isIn(plain.text)).map((one) => one.decode(plain))]
  return masked(
    text,
    views.flatMap((view) => inText(view, matcher.find(view.text).ranges)),
  )
}

/** Texts that follow upon each other, such as the last lines of an output. */
export function redactList(matcher: Matcher, texts: readonly string[]): string[] {
  const joined = texts.map((text) => text.replaceAll('\0', '')).join('\0')
  return texts.length === 0 ? [] : redactText(matcher, joined).split('\0')
}

/**
 * Lines that follow upon each other, one at a time. What may be the beginning of a secret goes unseen at once, so that no
 * line has to wait for the next one: at most three characters are shown of a secret that goes on there.
 */
export class LineRedactor {
  readonly #matcher: () => Matcher
  #plain = NOTHING
  /** of each escaping: how far it is, and the beginning of an escape at the end of the line before */
  readonly #escaped = ESCAPINGS.map((escaping) => ({ escaping, progress: NOTHING, cut: '' }))

  /** @param matcher asked for each line: secrets are resolved meanwhile */
  constructor(matcher: () => Matcher) {
    this.#matcher = matcher
  }

  redact(line: string): string {
    const matcher = this.#matcher()
    const plain = asRead(line)
    const before = this.#plain
    const found = matcher.find(plain.text, before)
    this.#plain = found.next
    const ranges = inLine(line, plain, found)
    for (const state of this.#escaped) {
      const { escaping, progress, cut } = state
      // As long as nothing is escaped, it reads like the text itself.
      if (cut === '' && progress === before && !escaping.isIn(plain.text)) {
        state.progress = found.next
        continue
      }
      const written = continued(plain, cut)
      state.cut = escaping.cut.exec(written.text)?.[0] ?? ''
      const view = escaping.decode({
        ...written,
        text: written.text.slice(0, written.text.length - state.cut.length),
      })
      const decoded = matcher.find(view.text, progress)
      ranges.push(...inLine(line, view, decoded))
      state.progress = same(decoded.next, found.next) ? found.next : decoded.next
    }
    return masked(line, ranges)
  }
}

function same(one: Progress, other: Progress): boolean {
  return one.tail === other.tail && one.begun.length === 0 && other.begun.length === 0
}

/** What is found, and what is begun, up to the end. */
function inLine(line: string, view: View, { ranges, unfinished }: Found): [number, number][] {
  const whole = inText(view, ranges)
  if (unfinished >= view.text.length) return whole
  return [...whole, [view.places?.().from[unfinished] ?? unfinished, line.length]]
}

function inText(view: View, ranges: [number, number][]): [number, number][] {
  if (ranges.length === 0 || view.places === undefined) return ranges
  const { from, to } = view.places()
  return ranges.map(([start, end]) => [from[start] ?? 0, to[end - 1] ?? 0])
}

/** Newlines, and what stands between the texts of a list, stay where they are. */
function masked(text: string, ranges: [number, number][]): string {
  if (ranges.length === 0) return text
  let [result, at] = ['', 0]
  for (const [start, end] of joined(ranges)) {
    const borders = text.slice(start, end).match(/[\n\0]/g) ?? []
    result += text.slice(at, start) + REDACTED + borders.map((border) => border + REDACTED).join('')
    at = end
  }
  return result + text.slice(at)
}

/** Those that overlap are one: a secret may contain another. */
function joined(ranges: [number, number][]): [number, number][] {
  const all: [number, number][] = []
  for (const [start, end] of ranges.sort(([a], [b]) => a - b)) {
    const last = all.at(-1)
    if (last !== undefined && start < last[1]) last[1] = Math.max(last[1], end)
    else all.push([start, end])
  }
  return all
}
