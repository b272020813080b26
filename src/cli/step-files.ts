import { randomUUID } from 'node:crypto'
import { appendFile } from 'node:fs/promises'
import { printable } from '../core/printable.ts'
import { tell, withoutSecrets } from './output.ts'

/**
 * Files that GitHub Actions reads after a step, as Forgejo's runner does. Elsewhere there are none, and nothing is written. What
 * cannot be written is said: the work is done, whoever learns of it.
 */

/** Markdown for the page of the run. */
export async function writeSummary(markdown: string): Promise<void> {
  await append('GITHUB_STEP_SUMMARY', `${withoutSecrets(printable(markdown)).trimEnd()}\n\n`)
}

/** Outputs of the step, for later steps and jobs: `steps.<id>.outputs.<name>`. */
export async function writeOutputs(values: ReadonlyMap<string, string>): Promise<void> {
  const lines = [...values].map(([name, value]) => {
    // Nobody can write it into a value, which would end there, and set other outputs.
    const end = `end-${randomUUID()}`
    return `${outputName(name)}<<${end}\n${withoutSecrets(value)}\n${end}\n`
  })
  if (lines.length > 0) await append('GITHUB_OUTPUT', lines.join(''))
}

/** Letters, digits, `-` and `_`, and no digit or `-` at the beginning. */
function outputName(name: string): string {
  return name.replace(/[^\w-]/g, '_').replace(/^(?![A-Za-z_])/, '_')
}

async function append(variable: string, text: string): Promise<void> {
  const file = process.env[variable]
  if (!file) return
  try {
    await appendFile(file, text)
  } catch (error) {
    tell(`${variable} cannot be written: ${(error as Error).message}\n`)
  }
}
