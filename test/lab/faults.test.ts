import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { Faults } from '../../src/lab/api/faults.ts'
import { readConfig } from '../../src/lab/config.ts'
import { readFaults } from '../../src/lab/faults.ts'

let dir: string
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'imagebuild-faults-'))
})
afterEach(() => rm(dir, { recursive: true, force: true }))

const config = async (text: string) => {
  await writeFile(join(dir, 'config.json'), text)
  return readConfig(dir, {})
}

test('without settings a lab has the hook of real servers, and no errors', async () => {
  expect((await config('{}')).faults).toEqual({
    postStopSeconds: 0.5,
    cloneStartSeconds: 0.2,
    lockSeconds: 0,
    deadWorkers: [],
  })
})

test('errors need a seed; the rest has a default', async () => {
  const { faults } = await config('{ "faults": { "lockSeconds": 2, "passingErrors": { "seed": 4 } } }')
  expect(faults).toMatchObject({
    lockSeconds: 2,
    passingErrors: { seed: 4, goingDown: 0.5, lists: 0.1, connections: 0.01 },
  })
  await expect(config('{ "faults": { "passingErrors": {} } }')).rejects.toThrow(/faults\.passingErrors\.seed/)
})

test('a wrong setting is named, with the file', async () => {
  const wrong = config('{ "faults": { "postStop": 3, "passingErrors": { "seed": 1, "lists": 20 } } }')
  await expect(wrong).rejects.toMatchObject({
    code: 'definition_invalid',
    what: expect.stringContaining(join(dir, 'config.json')),
    why: expect.stringMatching(/postStop[\s\S]*faults\.passingErrors\.lists/),
    next: 'correct or remove it',
  })
})

const hits = (seed: number, kind: 'lists' | 'goingDown', count = 200) => {
  const faults = new Faults(readFaults({ passingErrors: { seed, lists: 0.25, goingDown: 0.25 } }))
  return Array.from({ length: count }, () => faults.hits(kind))
}

test('a seed gives the same sequence each time, of each kind another', () => {
  expect(hits(1, 'lists')).toEqual(hits(1, 'lists'))
  expect(hits(1, 'lists')).not.toEqual(hits(2, 'lists'))
  expect(hits(1, 'lists')).not.toEqual(hits(1, 'goingDown'))
  const share = hits(1, 'lists', 4000).filter(Boolean).length / 4000
  expect(share).toBeGreaterThan(0.22)
  expect(share).toBeLessThan(0.28)
})
