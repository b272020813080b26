import { existsSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { Event, RunResult } from '../../src/core/events.ts'
import type { Pve } from '../../src/pve/client.ts'
import { destroyGuest } from '../../src/pve/destroy.ts'
import { nodeGuests } from '../../src/pve/guest-ref.ts'
import { inventory, labClient, parseEvents } from '../e2e/harness.ts'
import { FULL, startedLab, type TinyProject, tinyDefinition, tinyProject } from './tiny-project.ts'

/** Eight processes want the same version at the same moment: one builds it, and no other does anything. */

const RUNNERS = 8
const ROUNDS = FULL ? 20 : 3
const RANGES = { templates: '6000-6049', claims: '6050-6059' }

let tiny: TinyProject
let pve: Pve

beforeAll(async () => {
  const lab = await startedLab()
  tiny = await tinyProject(lab, RANGES)
  pve = await labClient()
})

afterAll(async () => {
  const signal = AbortSignal.timeout(120_000)
  for (const { kind, vmid } of await ours()) await destroyGuest(pve, { kind, node: 'lab', vmid, signal })
  await pve[Symbol.asyncDispose]()
  await tiny[Symbol.asyncDispose]()
})

const ours = async () => (await nodeGuests(pve, 'lab')).filter(({ vmid }) => vmid >= 6000 && vmid < 6060)

/** Containers that were ever created or converted here. */
async function tasks(): Promise<{ created: Set<string>; converted: Set<string> }> {
  const list = async (typefilter: string) => {
    const rows = (await pve.api.nodes.$('lab').tasks.$get({ typefilter, source: 'all', limit: 1000 })) as {
      upid: string
      id: string
    }[]
    const near = rows.filter(({ id }) => Number(id) >= 6000 && Number(id) < 6060)
    return new Set(near.map(({ upid }) => upid))
  }
  return { created: await list('vzcreate'), converted: await list('vztemplate') }
}

interface Ended {
  waits: boolean
  exitCode: number
  events: Event[]
  result: RunResult
  stderr: string
}

/** Half of them wait. */
async function runAll(): Promise<Ended[]> {
  const runners = Array.from({ length: RUNNERS }, async (_, index): Promise<Ended> => {
    const waits = index % 2 === 0
    const args = ['run', 'tiny', '--json', '--verify', 'off', ...(waits ? ['--wait'] : [])]
    const { exitCode, stdout, stderr } = await tiny.project.imagebuild(args, { env: tiny.env })
    const events = parseEvents(stdout)
    const last = events.at(-1)
    if (last?.type !== 'run.end') throw new Error(`no run.end; exit ${exitCode}\n${stderr}`)
    return { waits, exitCode: exitCode ?? -1, events, result: last.results[0] as RunResult, stderr }
  })
  return await Promise.all(runners)
}

/** What stands in tags, of all guests of these tests but old versions. */
const isTemporary = ({ tags = '' }: { tags?: string }) => /\bib-(claim|building|candidate|kept)\b/.test(tags)

const counted = { built: 0, unchanged: 0, busy: 0 }

test.for(Array.from({ length: ROUNDS }, (_, index) => index + 1))('round %i: one build', async (round) => {
  const { project, source } = tiny
  await project.write(tinyDefinition('tiny', source, 64 + round))
  const before = await tasks()
  const seeds = (await inventory(pve)).volumes.filter((volid) => volid.includes(':iso/'))
  const all = await runAll()
  const said = all.map(({ waits, exitCode, stderr }) => `${waits} ${exitCode}\n${stderr}`).join('\n')

  const built = all.filter(({ result }) => result.status === 'built')
  expect(built, said).toHaveLength(1)
  const { template } = (built[0] as Ended).result
  for (const { waits, exitCode, result, events } of all) {
    if (exitCode === 75) {
      expect(waits, said).toBe(false)
      expect(result).toMatchObject({ status: 'failed', error: { code: 'busy', exitCode: 75 } })
      counted.busy += 1
    } else {
      expect(exitCode, said).toBe(0)
      expect(result.template).toEqual(template)
      if (result.status === 'unchanged') counted.unchanged += 1
      else counted.built += 1
    }
    expect(events.filter(({ type }) => type === 'leak')).toEqual([])
  }

  const after = await tasks()
  expect(after.created.size - before.created.size, said).toBe(1)
  expect(after.converted.size - before.converted.size, said).toBe(1)
  const resolved = await project.imagebuild(['resolve', 'tiny'], { env: tiny.env })
  expect(resolved.stdout).toBe(`${template?.vmid}`)
  const guests = await ours()
  expect(guests.filter(isTemporary)).toEqual([])
  // By default three versions are kept; each round has made one.
  expect(guests).toHaveLength(Math.min(round, 3))
  expect((await inventory(pve)).volumes.filter((volid) => volid.includes(':iso/'))).toEqual(seeds)
  const lockfile = join(project.root, 'imagebuild.lock.json')
  expect(existsSync(lockfile)).toBe(true)
  expect(JSON.parse(await readFile(lockfile, 'utf8')).targets.lab.tiny).toMatchObject({
    version: template?.version,
    templates: { lab: template?.vmid },
  })
})

test('all runners are accounted for', () => {
  const { built, unchanged, busy } = counted
  console.log(
    `${ROUNDS} rounds of ${RUNNERS} runners: ${built} built, ${unchanged} unchanged, ${busy} told that it is being built${FULL ? '' : '; 20 rounds are left to npm run test:campaign'}`,
  )
  expect(built).toBe(ROUNDS)
  expect(built + unchanged + busy).toBe(ROUNDS * RUNNERS)
})
