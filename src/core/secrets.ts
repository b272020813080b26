import { readFile } from 'node:fs/promises'
import { resolve } from 'node:path'
import { ImagebuildError } from './errors.ts'
import { mapStrings } from './printable.ts'
import { LineRedactor, Matcher, redactList, redactText } from './redaction.ts'
import { formsOf, SHORTEST } from './secret-forms.ts'

export { REDACTED } from './redaction.ts'

/**
 * Secrets are named by reference and resolved as late as possible. Every value that was ever resolved is
 * remembered here, so that the event bus can take it out of whatever is printed or stored.
 */
export type SecretReference = `env:${string}` | `file:${string}` | `cmd:${string}`

const REFERENCE = /^(env|file|cmd):(.+)$/s

export function isSecretReference(text: string): text is SecretReference {
  return REFERENCE.test(text)
}

/** `file:` references are relative to the file that they stand in. */
export function absoluteReference(reference: SecretReference, folder: string): SecretReference {
  return reference.startsWith('file:')
    ? `file:${resolve(folder, reference.slice('file:'.length))}`
    : reference
}

export class SecretRegistry {
  readonly #values = new Set<string>()
  readonly #onResolved: (value: string) => void
  #matcher: Matcher | undefined

  /** @param onResolved told each value behind a reference before anybody else has it; not what is too short to be redacted */
  constructor(onResolved: (value: string) => void = () => {}) {
    this.#onResolved = onResolved
  }

  /** Remember a value that must never be printed (also each of its lines: keys have several). */
  add(value: string): void {
    for (const part of [value, ...value.split('\n')]) {
      const trimmed = part.trim()
      if (trimmed.length < SHORTEST || this.#values.has(trimmed)) continue
      this.#values.add(trimmed)
      this.#matcher = undefined
    }
  }

  /** A text without the secrets that are known, in whatever form: see `secret-forms.ts`. */
  redact(text: string): string {
    return this.#values.size === 0 ? text : redactText(this.#known(), text)
  }

  /** The same for lines that come one by one, and may have a secret across their borders. */
  lines(): { redact(line: string): string } {
    const redactor = new LineRedactor(() => this.#known())
    return { redact: (line) => (this.#values.size === 0 ? line : redactor.redact(line)) }
  }

  /** `redact` through all strings of a JSON-like value; a list of strings is taken for lines. */
  redactDeep<T>(value: T): T {
    if (this.#values.size === 0) return value
    const matcher = this.#known()
    return mapStrings(
      value,
      (text) => redactText(matcher, text),
      (texts) => redactList(matcher, texts),
    )
  }

  #known(): Matcher {
    this.#matcher ??= new Matcher([...this.#values].flatMap(formsOf))
    return this.#matcher
  }

  /**
   * The value behind a reference; one trailing newline is taken off, as shells do.
   * @throws ImagebuildError `definition_invalid` when the variable, file or command gives nothing
   */
  async resolve(reference: SecretReference, signal?: AbortSignal): Promise<string> {
    const [, kind, name] = REFERENCE.exec(reference) as unknown as [string, string, string]
    const value = (await read(kind, name, reference, signal)).replace(/\r?\n$/, '')
    if (value === '') throw unresolved(reference, 'it is empty')
    if (value.trim().length >= SHORTEST) this.#onResolved(value)
    this.add(value)
    return value
  }
}

async function read(kind: string, name: string, reference: string, signal?: AbortSignal): Promise<string> {
  if (kind === 'env') {
    const value = process.env[name]
    if (value === undefined) throw unresolved(reference, `the environment variable ${name} is not set`)
    return value
  }
  if (kind === 'file') {
    try {
      return await readFile(name, 'utf8')
    } catch (cause) {
      throw unresolved(reference, (cause as Error).message, cause)
    }
  }
  // Most secrets are variables, and this library is slow to load.
  const { execa } = await import('execa')
  signal?.throwIfAborted()
  try {
    // stderr goes to the user: a password manager may have to ask for something.
    const running = execa(name, {
      shell: true,
      stderr: 'inherit',
      ...(signal && { cancelSignal: signal }),
    })
    // The signal ends the shell; what the shell has started would still hold the pipe open.
    const letGo = () => running.stdout.destroy()
    signal?.addEventListener('abort', letGo, { once: true })
    try {
      return (await running).stdout
    } finally {
      signal?.removeEventListener('abort', letGo)
    }
  } catch (error) {
    signal?.throwIfAborted()
    // No cause: execa's error holds what the command printed, and that may be the secret.
    throw unresolved(reference, `the command failed: ${(error as { shortMessage?: string }).shortMessage}`)
  }
}

function unresolved(reference: string, why: string, cause?: unknown): ImagebuildError {
  return new ImagebuildError({
    code: 'definition_invalid',
    what: `the secret ${reference} cannot be read`,
    why,
    next: 'set it, or change the reference (env:NAME, file:/path or cmd:command)',
    cause,
  })
}
