import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'

const ROOT = join(import.meta.dirname, '../..')
const HOOK = join(ROOT, 'src/cli/without-locales.ts')

/** In a process of its own: here zod is loaded already. */
async function zodSays(before: string): Promise<unknown> {
  const program = `${before}
    const { z } = await import('zod')
    const { error } = z.string().safeParse(1)
    const { parse } = await import('yaml')
    console.log(JSON.stringify([Object.keys(z.locales).length, error.issues[0].message, parse('a: 1')]))`
  const args = ['--input-type=module', '--eval', program]
  const { stdout } = await promisify(execFile)(process.execPath, args, { cwd: ROOT })
  return JSON.parse(stdout)
}

const ENGLISH = 'Invalid input: expected string, received number'

test('zod comes without its languages, still speaks English, and others are loaded as ever', async () => {
  const [count] = (await zodSays('')) as [number]
  expect(count).toBeGreaterThan(40)
  const leaveOut = `const { leaveOutLocales } = await import(${JSON.stringify(HOOK)}); leaveOutLocales();`
  expect(await zodSays(leaveOut)).toEqual([0, ENGLISH, { a: 1 }])
})
