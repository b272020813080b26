import { readFile } from 'node:fs/promises'
import { resolve } from 'node:path'
import { ImagebuildError } from './errors.ts'

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

/** What stands for a secret in all output. */
export const REDACTED = '••••••'

/** A value shorter than this is not redacted: it would blot out half of the log and protects nothing. */
const SHORTEST_REDACTED = 4

export class SecretRegistry {
  readonly #values = new Set<string>()

  /** Remember a value that must never be printed (also each of its lines: keys have several). */
  add(value: string): void {
    for (const part of [value, ...value.split('\n')]) {
      const trimmed = part.trim()
      if (trimmed.length >= SHORTEST_REDACTED) this.#values.add(trimmed)
    }
  }

  redact(text: string): string {
    let result = text
    // Longest first: a secret may contain another.
    for (const value of [...this.#values].sort((a, b) => b.length - a.length)) {
      if (result.includes(value)) result = result.replaceAll(value, REDACTED)
    }
    return result
  }

  /** `redact` through all strings of a JSON-like value. */
  redactDeep<T>(value: T): T {
    if (this.#values.size === 0) return value
    if (typeof value === 'string') return this.redact(value) as T
    if (Array.isArray(value)) return value.map((item) => this.redactDeep(item)) as T
    if (value !== null && typeof value === 'object' && Object.getPrototypeOf(value) === Object.prototype) {
      return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, this.redactDeep(item)])) as T
    }
    return value
  }

  /**
   * The value behind a reference; one trailing newline is taken off, as shells do.
   * @throws ImagebuildError `definition_invalid` when the variable, file or command gives nothing
   */
  async resolve(reference: SecretReference, signal?: AbortSignal): Promise<string> {
    const [, kind, name] = REFERENCE.exec(reference) as unknown as [string, string, string]
    const value = (await read(kind, name, reference, signal)).replace(/\r?\n$/, '')
    if (value === '') throw unresolved(reference, 'it is empty')
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
