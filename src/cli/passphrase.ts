import { createInterface } from 'node:readline/promises'
import { Writable } from 'node:stream'
import { ImagebuildError } from '../core/errors.ts'
import { isSecretReference, type SecretReference } from '../core/secrets.ts'
import type { Invocation } from './invocation.ts'
import { terminal } from './output.ts'

/** Passphrases: by reference, or asked for on a terminal, where they are not shown. */

/** @throws ImagebuildError `usage` if it is no reference: the text is not repeated, as it may be the passphrase itself */
export function checkReference(text: string): SecretReference {
  if (isSecretReference(text)) return text
  throw new ImagebuildError({
    code: 'usage',
    what: '--passphrase wants a reference, not the passphrase itself',
    why: 'everybody on this machine can read command lines',
    next: '--passphrase env:NAME, file:/path or cmd:command',
  })
}

/** The passphrase behind `--passphrase`. */
export async function passphraseBehind(invocation: Invocation, reference: string): Promise<string> {
  return await invocation.secrets.resolve(checkReference(reference), invocation.signal)
}

/**
 * Asks once, or twice for a new one.
 * @throws ImagebuildError `usage` without a terminal or where the two differ, `interrupted` by Ctrl-C
 */
export async function askPassphrase(
  invocation: Invocation,
  question: string,
  { twice = false, instead }: { twice?: boolean; instead: string },
): Promise<string> {
  if (!process.stdin.isTTY || !terminal().isTTY) {
    throw new ImagebuildError({
      code: 'usage',
      what: `nobody can be asked for the ${question}`,
      why: 'this is no terminal',
      next: instead,
    })
  }
  const first = await ask(invocation, question)
  if (twice && (await ask(invocation, `${question} once more`)) !== first) {
    throw new ImagebuildError({
      code: 'usage',
      what: 'the two passphrases differ',
      why: 'one of them was mistyped',
      next: 'try again',
    })
  }
  invocation.secrets.add(first)
  return first
}

async function ask({ signal }: Invocation, question: string): Promise<string> {
  const silent = new Writable({ write: (_chunk, _encoding, done) => done() })
  const lines = createInterface({ input: process.stdin, output: silent, terminal: true, historySize: 0 })
  // In raw mode Ctrl-C and Ctrl-D are mere characters, which only this one sees.
  const left = new Promise<never>((_resolve, reject) => {
    const leave = () => reject(new ImagebuildError({ code: 'interrupted', what: 'interrupted' }))
    lines.once('SIGINT', leave).once('close', leave)
  })
  try {
    terminal().write(`${question}: `)
    return await Promise.race([lines.question('', { signal }), left])
  } finally {
    left.catch(() => undefined)
    lines.close()
    terminal().write('\n')
  }
}
