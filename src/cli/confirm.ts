import { createInterface } from 'node:readline/promises'
import { printable } from '../core/printable.ts'
import type { Invocation } from './invocation.ts'
import { terminal } from './output.ts'

/** Whether there is somebody who can be asked. */
export function isTerminal(): boolean {
  return process.stdin.isTTY && terminal().isTTY
}

/** Asks on the terminal. All but y and yes is no, and so is the end of input. */
export async function confirm({ signal }: Invocation, question: string): Promise<boolean> {
  const lines = createInterface({ input: process.stdin, output: terminal() })
  // Ctrl-C, which the terminal hands to this one, is the whole program's.
  lines.on('SIGINT', () => process.kill(process.pid, 'SIGINT'))
  const ended = new Promise<string>((resolve) => lines.once('close', () => resolve('')))
  try {
    const answer = await Promise.race([lines.question(`${printable(question)} [y/N] `, { signal }), ended])
    return /^\s*y(es)?\s*$/i.test(answer)
  } catch (error) {
    signal.throwIfAborted()
    throw error
  } finally {
    lines.close()
  }
}
