import { printable } from '../core/printable.ts'

/**
 * What a console prints, or a log of it, as lines that errors and logs may show. Every program that boots writes to a guest's
 * console: private keys that a script prints are left out, and so are the passwords that cloud-init makes up and tells nowhere
 * else.
 */

/** Lines of a private key at most: one of 16384 bits has 200. */
const KEY_LINES = 250

/** A key in one line, or its beginning. */
const KEY =
  /-----BEGIN [A-Z0-9 ]*PRIVATE KEY( BLOCK)?-----.*?(-----END [A-Z0-9 ]*PRIVATE KEY( BLOCK)?-----|$)/g
const KEY_BEGIN = /-----BEGIN [A-Z0-9 ]*PRIVATE KEY( BLOCK)?-----/
const KEY_END = /-----END [A-Z0-9 ]*PRIVATE KEY( BLOCK)?-----/

/** The words of cloud-init's cc_set_passwords before `user:password`, one a line; lines after them in which those are looked for. */
const PASSWORDS = /Set the following 'random' passwords/
const PASSWORD_LINES = 50
const PASSWORD = /(^|\s)([a-z_][a-z0-9_.-]*):\S{4,}\s*$/i

const HIDDEN_KEY = '(a private key, not shown)'

export class ConsoleLines {
  #rest = ''
  /** lines of a key that may still come */
  #key = 0
  /** lines among which there may be passwords */
  #passwords = 0

  /** The lines that this piece of text completes. */
  read(text: string): string[] {
    const lines = (this.#rest + text).split(/\r*\n/)
    this.#rest = lines.pop() ?? ''
    return lines.flatMap((line) => this.#shown(line) ?? [])
  }

  /** The line that has no end yet: where a boot waits for something, the prompt. */
  get unfinished(): string | undefined {
    if (this.#key > 0 || this.#passwords > 0 || this.#rest === '') return undefined
    return printable(this.#rest).replace(KEY, HIDDEN_KEY)
  }

  #shown(raw: string): string | undefined {
    const line = printable(raw)
    if (this.#key > 0) {
      this.#key = KEY_END.test(line) ? 0 : this.#key - 1
      return undefined
    }
    if (KEY_BEGIN.test(line)) {
      const begun = line.slice(line.lastIndexOf('-----BEGIN'))
      this.#key = KEY_END.test(begun) ? 0 : KEY_LINES
      return line.replace(KEY, HIDDEN_KEY)
    }
    if (PASSWORDS.test(line)) this.#passwords = PASSWORD_LINES
    else if (this.#passwords > 0) {
      this.#passwords -= 1
      return line.replace(PASSWORD, '$1$2:(a password, not shown)')
    }
    return line
  }
}
