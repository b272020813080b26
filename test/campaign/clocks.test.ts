import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { nodeGuests } from '../../src/pve/guest-ref.ts'
import { type Ground, openGround } from './kill/ground.ts'
import { type Clock, type Ended, makeClock, startRunner } from './runner.ts'
import { FULL } from './tiny-project.ts'
import { tinySource } from './tiny-system.ts'

/**
 * Two runners whose clocks are ten minutes apart, one before and one behind the lab's, want the same version. Each is in a
 * PID namespace of its own, so that neither can see whether the other lives: one builds, and none loses its build.
 */
const APART = 300
const ROUNDS = FULL ? 20 : 3

let folder: string
let ground: Ground
let ahead: Clock
let behind: Clock

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'imagebuild-clocks-'))
  ahead = await makeClock(join(folder, 'ahead'), 'wall')
  await ahead.set(APART)
  behind = await makeClock(join(folder, 'behind'), 'wall')
  await behind.set(-APART)
  const source = await tinySource(folder)
  const definition = (turn: number) =>
    [
      source,
      'hardware: { rootfs: 512M }',
      `provision:\n  - shell: echo ${turn} > /etc/turn`,
      'hardening: none',
    ].join('\n')
  ground = await openGround({ name: 'clocks', kind: 'lxc', index: 0, storage: 'local-lvm', definition })
})

afterAll(async () => {
  await ground?.[Symbol.asyncDispose]()
  await rm(folder, { recursive: true, force: true })
})

const inRange = (vmid: number) => vmid >= ground.vmids.first && vmid <= ground.vmids.last

async function tasks(typefilter: string): Promise<number> {
  const { tasks } = ground.pve.api.nodes.$(ground.node)
  const rows = (await tasks.$get({ typefilter, source: 'all', limit: 1000 })) as { id: string }[]
  return rows.filter(({ id }) => inRange(Number(id))).length
}

type Start = 'the one behind first' | 'the one ahead first' | 'both at once'
const STARTS: readonly Start[] = ['the one behind first', 'the one ahead first', 'both at once']

/** The one that comes second waits in every other round. */
async function runBoth(start: Start, wait: boolean): Promise<Ended[]> {
  const clocks = start === 'the one ahead first' ? [ahead, behind] : [behind, ahead]
  const [one, other] = clocks as [Clock, Clock]
  using first = startRunner(ground, { target: 'direct', apart: true, clock: one })
  // It has its claim.
  if (start !== 'both at once') await first.until(({ type }) => type === 'image.start')
  const args = wait ? ['--wait'] : []
  using second = startRunner(ground, { target: 'direct', apart: true, clock: other, args })
  const ended = await Promise.all([first.ended, second.ended])
  for (const { events } of [first, second]) expect(events.filter(({ type }) => type === 'leak')).toEqual([])
  return ended
}

test.for(
  Array.from(
    { length: ROUNDS },
    (_, index) => [index + 1, STARTS[index % STARTS.length] as Start, index % 2 === 0] as const,
  ),
)('round %i, %s: one build, and none is lost', async ([, start, wait]) => {
  await ground.change()
  const before = { created: await tasks('vzcreate'), converted: await tasks('vztemplate') }
  const all = await runBoth(start, wait)
  const said = all.map(({ exitCode, stderr }) => `${exitCode}\n${stderr}`).join('\n')
  const built = all.filter(({ result }) => result.status === 'built')
  expect(built, said).toHaveLength(1)
  for (const { exitCode, result, stderr } of all) {
    // Not waiting is the only way to come to nothing.
    if (exitCode === 75) expect(stderr).toContain('is being built already')
    else expect([exitCode, result.template], said).toEqual([0, built[0]?.result.template])
  }
  expect(await tasks('vzcreate'), said).toBe(before.created + 1)
  expect(await tasks('vztemplate'), said).toBe(before.converted + 1)
  const left = (await nodeGuests(ground.pve, ground.node)).filter(
    ({ vmid, tags = '' }) => inRange(vmid) && !/\bib-(current|previous|retired)\b/.test(tags),
  )
  expect(left).toEqual([])
})
