import { StringDecoder } from 'node:string_decoder'
import { printable, REPLACEMENT } from '../core/printable.ts'

/** Bytes of each output stream that are kept; what a log line needs went out live. */
export const KEPT_BYTES = 1024 * 1024

/** A line longer than this is handed on in parts. */
const LONGEST_LINE = 16 * 1024

/**
 * One output stream of a remote command: UTF-8 that may be cut anywhere by packets, handed on line by line
 * as it comes, and the end of it kept.
 */
export class OutputStream {
  readonly #decoder = new StringDecoder('utf8')
  readonly #onLine: ((line: string) => void) | undefined
  readonly #keep: number
  #chunks: Buffer[] = []
  #kept = 0
  #cut = 0
  #line = ''

  constructor(onLine?: (line: string) => void, keep = KEPT_BYTES) {
    this.#onLine = onLine
    this.#keep = keep
  }

  write(chunk: Buffer): void {
    this.#chunks.push(chunk)
    this.#kept += chunk.length
    while (this.#chunks.length > 1 && this.#kept - (this.#chunks[0] as Buffer).length >= this.#keep) {
      const dropped = (this.#chunks.shift() as Buffer).length
      this.#kept -= dropped
      this.#cut += dropped
    }
    if (this.#onLine) this.#split(this.#decoder.write(chunk))
  }

  /** The stream has ended: a last line without a newline is a line too. */
  end(): void {
    if (!this.#onLine) return
    this.#split(this.#decoder.end())
    if (this.#line !== '') this.#emit(this.#line)
    this.#line = ''
  }

  /** All of it, or the end of it under a line that says how much is missing. */
  text(): string {
    const all = Buffer.concat(this.#chunks)
    let start = Math.max(0, all.length - this.#keep)
    if (start + this.#cut === 0) return all.toString('utf8')
    // Not in the middle of a character: continuation bytes of UTF-8 are 10xxxxxx.
    while (start < all.length && ((all[start] as number) & 0xc0) === 0x80) start++
    return `[the first ${this.#cut + start} bytes are left out]\n${all.toString('utf8', start)}`
  }

  #split(text: string): void {
    const lines = (this.#line + text).split('\n')
    this.#line = lines.pop() as string
    for (const line of lines) this.#emit(line)
    while (this.#line.length > LONGEST_LINE) {
      const end = wholeSequences(this.#line, LONGEST_LINE)
      this.#emit(this.#line.slice(0, end))
      this.#line = this.#line.slice(end)
    }
  }

  #emit(line: string): void {
    // Progress that repaints one line with carriage returns: what a terminal would show in the end.
    const shown = line.replace(/\r+$/, '')
    this.#onLine?.(shown.slice(shown.lastIndexOf('\r') + 1))
  }
}

/** Longest escape sequence that is not cut; a colour has some twenty characters. */
const LONGEST_SEQUENCE = 256

/** Where a line may be cut, `at` or before it: neither in an escape sequence, half of which is text, nor in a character. */
function wholeSequences(line: string, at: number): number {
  const begin = line.lastIndexOf('\x1b', at - 1)
  if (begin > at - LONGEST_SEQUENCE && begin > 0) {
    // Left alone, the beginning of a sequence is a control character that is replaced; a whole one is taken out.
    const isWhole = !printable(line.slice(begin, at)).includes(REPLACEMENT)
    if (!isWhole) return begin
  }
  const isPair = /[\ud800-\udbff]/.test(line.charAt(at - 1))
  return isPair ? at - 1 : at
}

/** The last lines of an output, for an error. */
export function lastLines(text: string, count = 20): string[] {
  const trimmed = text.trimEnd()
  return trimmed === '' ? [] : trimmed.split('\n').slice(-count)
}
