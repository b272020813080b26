import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { guestApi, nodeGuests, readConfig } from '../../src/pve/guest-ref.ts'
import { fromTags, type Marks, type Note, parseNote, renderNote, toTags } from '../../src/pve/marks.ts'
import { select, templatesIn } from '../../src/pve/templates.ts'
import { type Ground, openGround } from './kill/ground.ts'
import { type Clock, type Ended, makeClock, type Runner, startRunner } from './runner.ts'
import { FULL } from './tiny-project.ts'
import { tinySource } from './tiny-system.ts'

/**
 * A runner that does not run for ten minutes: in a layer, in verification, and just before promotion. It goes on where
 * nobody has taken its claim meanwhile, and ends where another run has.
 *
 * `npm run test:campaign` really stops it for so long. The sample stops it for some seconds, in which its clocks go on by
 * ten minutes: both of them, as they do for a stopped process, or the wall clock alone, as in a suspended machine. And its
 * claim is made to look as old as it would be.
 */
const AWAY = 600
const STOPPED = FULL ? AWAY : 12
/** Seconds that the layer may take: less than the stop, more than its work. */
const LAYER = 10

type Where = 'in a layer' | 'in verification' | 'just before promotion'
const PLACES: readonly Where[] = ['in a layer', 'in verification', 'just before promotion']

let folder: string
const grounds = new Map<Where, Ground>()

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'imagebuild-pauses-'))
  const source = await tinySource(folder)
  const definition = (turn: number) =>
    [
      source,
      'hardware: { rootfs: 512M }',
      'provision:',
      `  - shell: echo at work; sleep 3; echo ${turn} > /etc/turn`,
      `    timeout: ${LAYER}s`,
      'hardening: none',
    ].join('\n')
  for (const [index, where] of PLACES.entries()) {
    const name = `pause${index}`
    grounds.set(where, await openGround({ name, kind: 'lxc', index, storage: 'local-lvm', definition }))
  }
})

afterAll(async () => {
  for (const ground of grounds.values()) await ground[Symbol.asyncDispose]()
  await rm(folder, { recursive: true, force: true })
})

/** The runner has come there, and stands. */
async function stopAt(where: Where, ground: Ground, runner: Runner): Promise<() => void> {
  let release = () => {}
  if (where === 'just before promotion') {
    const { promise: reached, resolve: reach } = Promise.withResolvers<void>()
    const released = Promise.withResolvers<void>()
    release = released.resolve
    let isProven = false
    ground.trap = {
      // The call after the one that marks the candidate as proven does not come through.
      decide: async (): Promise<'pass'> => {
        if (!isProven) return 'pass'
        reach()
        await released.promise
        return 'pass'
      },
      answered: ({ method, body }) => {
        if (method === 'PUT' && body?.get('tags')?.includes('ib-verified')) isProven = true
        return undefined
      },
    }
    await Promise.race([reached, runner.ended])
  } else {
    const step = where === 'in a layer' ? 'at work' : 'looking into it'
    await runner.until(
      (event) =>
        (event.type === 'output' && event.line === step) ||
        (event.type === 'step.start' && event.label === step),
    )
  }
  await runner.stop()
  return () => {
    ground.trap = {}
    runner.goOn()
    release()
  }
}

const claimOf = async ({ pve, node, namespace, image }: Ground) =>
  (await nodeGuests(pve, node)).find(({ vmid, tags }) => {
    const marks = fromTags(vmid, tags)
    return marks?.state === 'claim' && marks.namespace === namespace && marks.image === image
  })

/** Where it was not really stopped for so long. */
async function letExpire(ground: Ground): Promise<void> {
  const claim = await claimOf(ground)
  if (claim === undefined) throw new Error('there is no claim')
  const guest = { kind: claim.kind, node: ground.node, vmid: claim.vmid }
  const { tags, description } = await readConfig(ground.pve, guest)
  const marks = fromTags(claim.vmid, tags) as Marks
  // The lab's clock is this machine's.
  const expires = Math.floor(Date.now() / 1000) + 300 - AWAY
  const note = { ...(parseNote(claim.vmid, description) as Note), expires }
  await guestApi(ground.pve, guest).config.$put({
    tags: toTags({ ...marks, expires }),
    description: renderNote(note),
  })
}

async function away(ground: Ground, clock: Clock | undefined): Promise<void> {
  await delay(STOPPED * 1000)
  if (FULL) return
  await clock?.set(AWAY)
  await letExpire(ground)
}

/** Those with our marks, but for finished templates. */
async function leftovers({ pve, node, vmids }: Ground): Promise<string[]> {
  return (await nodeGuests(pve, node)).flatMap(({ vmid, tags = '' }) =>
    vmid >= vmids.first && vmid <= vmids.last && !/\bib-(current|previous|retired)\b/.test(tags)
      ? [`${vmid} ${tags}`]
      : [],
  )
}

async function current({ pve, node, namespace, image }: Ground) {
  const rows = (await nodeGuests(pve, node)).map((row) => ({ ...row, node }))
  return select(templatesIn(rows, namespace), image)
}

const told = (runner: Runner, ended: Ended) =>
  `${ended.stderr}\n${runner.events.map((event) => ('message' in event ? event.message : '')).join('\n')}`

/**
 * A runner on the ground of this place, with a new definition.
 * @param kind which of its clocks go on where it is not really stopped for so long
 */
async function begin(
  where: Where,
  kind: 'wall' | 'both',
  args: readonly string[] = [],
): Promise<{ ground: Ground; runner: Runner; clock: Clock | undefined }> {
  const ground = grounds.get(where) as Ground
  await ground.change()
  const clock = FULL ? undefined : await makeClock(join(folder, `clock-${ground.name}`), kind)
  const target = where === 'just before promotion' ? 'proxied' : 'direct'
  return { ground, clock, runner: startRunner(ground, { target, args, ...(clock && { clock }) }) }
}

describe('where nobody has taken its claim, a runner that stands still', () => {
  test.concurrent.each(PLACES)('%s goes on, and says once that it stood', async (where) => {
    const { ground, runner, clock } = await begin(where, 'both')
    using _runner = runner
    const goOn = await stopAt(where, ground, runner)
    await away(ground, clock)
    // On this machine its process is seen to live, although its claim is long over.
    const other = await startRunner(ground, { target: 'direct' }).ended
    expect(other.exitCode, other.stderr).toBe(75)
    expect(other.stderr).toContain('is being built already')
    goOn()
    const ended = await runner.ended
    expect(ended.exitCode, told(runner, ended)).toBe(0)
    expect(ended.result).toMatchObject({ status: 'built', held: false })
    expect((await current(ground))?.vmid).toBe(ended.result.template?.vmid)
    const pauses = runner.events.flatMap((event) => (event.type === 'pause' ? [event.seconds] : []))
    expect(pauses.filter((seconds) => seconds > AWAY - 5)).toHaveLength(1)
    expect(runner.events.filter(({ type }) => type === 'leak')).toEqual([])
    expect(await leftovers(ground)).toEqual([])
  })
})

describe('where another run has taken its claim, a runner that stands still', () => {
  test.concurrent.each(PLACES)('%s ends, and touches nothing of that run', async (where) => {
    // Whoever wants to look into a guest that failed must not get that of another run.
    const { ground, runner, clock } = await begin(where, 'wall', ['--on-error', 'keep'])
    using _runner = runner
    const before = await current(ground)
    const goOn = await stopAt(where, ground, runner)
    await away(ground, clock)
    // A proven candidate would be promoted at once, and the claim be gone again.
    if (where === 'just before promotion') await ground.change()
    using other = startRunner(ground, { target: 'direct', apart: true })
    // In the middle of its own work, with the VMID that the first one's guest had.
    const step = where === 'in verification' ? 'verify' : 'layer'
    await other.until((event) => event.type === 'step.start' && event.step === step)
    await other.stop()
    const theirs = await leftovers(ground)
    expect(theirs.some((guest) => guest.includes('ib-claim'))).toBe(true)

    goOn()
    const ended = await runner.ended
    expect(ended.exitCode, told(runner, ended)).toBe(75)
    expect(ended.result).toMatchObject({ status: 'failed', error: { code: 'busy' } })
    expect(ended.stderr).toContain('another run has taken over the claim')
    if (FULL) expect(ended.stderr).toMatch(/had not renewed it for \d+ s: was this machine suspended/)
    expect(runner.events.filter(({ type }) => type === 'leak')).toEqual([])
    expect(await leftovers(ground)).toEqual(theirs)
    expect((await current(ground))?.vmid).toBe(before?.vmid)

    other.goOn()
    const built = await other.ended
    expect(built.exitCode, told(other, built)).toBe(0)
    expect(built.result.status).toBe('built')
    expect((await current(ground))?.vmid).toBe(built.result.template?.vmid)
    expect(await leftovers(ground)).toEqual([])
  })
})
