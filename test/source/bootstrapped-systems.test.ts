import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { findSystem, keepSystem } from '../../src/source/bootstrapped-systems.ts'
import { adoptFile } from '../../src/source/cache.ts'

const IDENTITY = `sha256:${'1'.repeat(64)}`
const OTHER = `sha256:${'2'.repeat(64)}`
let cacheDir: string
beforeEach(async () => {
  cacheDir = await mkdtemp(join(tmpdir(), 'imagebuild-systems-'))
})
afterEach(async () => {
  await rm(cacheDir, { recursive: true })
})
const ctx = () => ({ cacheDir, signal: new AbortController().signal })

/** A system of some bytes that brings these packages along. */
async function keep(brought: readonly string[], identity = IDENTITY, isFresh = false): Promise<void> {
  const path = join(cacheDir, 'made')
  await writeFile(path, `a system with ${brought.join()}`)
  await keepSystem(ctx(), identity, await adoptFile(ctx(), path, 'qcow2'), { brought, isFresh })
}
const found = async (wanted: readonly string[]) => (await findSystem(ctx(), IDENTITY, wanted))?.brought

test('the system that has most of what is wanted serves, and never one with more', async () => {
  for (const brought of [[], ['curl'], ['curl', 'htop'], ['curl', 'nginx']]) await keep(brought)
  await keep(['curl', 'htop', 'jq'], OTHER)
  expect(await found([])).toEqual([])
  expect(await found(['htop'])).toEqual([])
  expect(await found(['jq', 'htop', 'curl'])).toEqual(['curl', 'htop'])
})

test('one that lacks more than it may does not serve', async () => {
  await keep(['curl'])
  const lacking = async (mayLack: number) =>
    (await findSystem(ctx(), IDENTITY, ['curl', 'htop', 'jq', 'jq'], mayLack))?.brought
  expect(await lacking(1)).toBeUndefined()
  expect(await lacking(2)).toEqual(['curl'])
})

test('where all have more, none serves', async () => {
  await keep(['curl'])
  expect(await found(['htop', 'jq'])).toBeUndefined()
})

test('packages are a set: the same in another order are the same system', async () => {
  await keep(['curl', 'htop'])
  await keep(['htop', 'curl'])
  expect(await found(['curl', 'htop'])).toEqual(['htop', 'curl'])
})

test('one that was made for newer packages replaces all others of its recipe', async () => {
  await keep(['curl', 'htop'])
  await keep(['curl'], OTHER)
  await keep(['curl'], IDENTITY, true)
  expect(await found(['curl', 'htop'])).toEqual(['curl'])
  expect((await findSystem(ctx(), OTHER, ['curl']))?.brought).toEqual(['curl'])
})

test('one whose file is gone serves nobody, another does', async () => {
  await keep([])
  await keep(['curl'])
  const whole = await findSystem(ctx(), IDENTITY, ['curl'])
  await rm(whole?.path as string)
  expect(await found(['curl'])).toEqual([])
})
