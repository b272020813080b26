import { mkdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { Event, RunResult } from '../../src/core/events.ts'
import type { FaultsInput } from '../../src/lab/faults.ts'
import { stopLab } from '../../src/lab/lab.ts'
import type { Pve } from '../../src/pve/client.ts'
import { type GuestKind, nodeGuests, readConfig } from '../../src/pve/guest-ref.ts'
import { nodeTemplates, readNote, type Template } from '../../src/pve/templates.ts'
import { BOOTSTRAP, CACHE_DIR, inventory, LAB_DIR, labClient, parseEvents } from '../e2e/harness.ts'
import { judgeEnd } from './clear-error.ts'
import { type Neighbour, startNeighbour } from './neighbour.ts'
import { FULL, startedLab, type TinyProject, tinyDefinition, tinyProject } from './tiny-project.ts'

/**
 * Whole builds, one after the other, on a lab that is as bad as real servers have been seen to be, beside somebody else
 * who makes and removes guests. Each ends right, or says clearly why not; nothing is left behind but what it told.
 */

const SEED = Number(process.env.IMAGEBUILD_CAMPAIGN_SEED ?? 1)
const FAULTS: FaultsInput = {
  postStopSeconds: 3,
  cloneStartSeconds: 1,
  lockSeconds: 2,
  passingErrors: { seed: SEED, goingDown: 1, lists: 0.2, connections: 0.02 },
}
const CONTAINERS = FULL ? 10 : 3
const MACHINES = FULL ? 2 : 0
const RANGE = { first: 6300, last: 6359 }
const NEIGHBOUR = 6900
/** seconds; an emulated machine boots three times, on a node where others are at work */
const RUN_SECONDS: Record<GuestKind, number> = { lxc: 600, vm: 3600 }

let tiny: TinyProject
let pve: Pve
let neighbour: Neighbour
const stack = new AsyncDisposableStack()

beforeAll(async () => {
  await stopLab(LAB_DIR)
  await mkdir(LAB_DIR, { recursive: true, mode: 0o700 })
  const config = join(LAB_DIR, 'config.json')
  await writeFile(config, JSON.stringify({ faults: FAULTS }))
  // Whoever comes next has an ordinary lab.
  stack.defer(async () => {
    await stopLab(LAB_DIR)
    await rm(config)
  })
  const lab = await startedLab()
  tiny = stack.use(await tinyProject(lab, { templates: '6300-6349', claims: '6350-6359' }))
  pve = stack.use(await labClient())
  neighbour = stack.use(await startNeighbour(lab, NEIGHBOUR))
})
afterAll(() => stack.disposeAsync())

/** What the test itself wants to know, as often as it takes. */
async function known<T>(ask: () => Promise<T>): Promise<T> {
  for (let n = 1; ; n += 1) {
    try {
      return await ask()
    } catch (error) {
      if (n === 50) throw error
      await delay(200)
    }
  }
}

const definitions: Record<GuestKind, (image: string, turn: number) => Record<string, string>> = {
  lxc: (image, turn) => tinyDefinition(image, tiny.source, 64 + turn),
  vm: (image, turn) => ({
    [`images/${image}/image.yaml`]: [
      `name: ${image}`,
      BOOTSTRAP,
      `hardware: { cores: 1, memory: ${768 + turn}, disk: 4G }`,
      'hardening: none',
      '',
    ].join('\n'),
  }),
}

interface Ran {
  exitCode: number
  result: RunResult | undefined
  events: Event[]
  stderr: string
}

/** With the bootstrapped system of other tests, where they have left one. */
const imagebuild = (...args: string[]) =>
  tiny.project.imagebuild(args, { env: { ...tiny.env, IMAGEBUILD_CACHE_DIR: CACHE_DIR } })

async function run(image: string, kind: GuestKind): Promise<Ran> {
  const running = imagebuild('run', image, '--json', '--verify', 'full')
  const timer = setTimeout(() => running.kill('SIGKILL'), RUN_SECONDS[kind] * 1000)
  const { exitCode, stdout, stderr } = await running.finally(() => clearTimeout(timer))
  const events = parseEvents(stdout)
  const last = events.at(-1)
  const result = last?.type === 'run.end' ? (last.results[0] as RunResult) : undefined
  return { exitCode: exitCode ?? -1, result, events, stderr }
}

/** A command that may fail at this lab, but not for ever. */
async function command(...args: string[]): Promise<{ failed: number; stdout: string }> {
  for (let failed = 0; ; failed += 1) {
    const { exitCode, stdout, stderr } = await imagebuild(...args)
    if (exitCode === 0) return { failed, stdout }
    if (failed === 5) throw new Error(`${args.join(' ')} ends with ${exitCode}:\n${stdout}\n${stderr}`)
  }
}

const templates = async (image: string): Promise<Template[]> =>
  (await known(() => nodeTemplates(pve, 'lab', 'campaign'))).filter(({ marks }) => marks.image === image)

/** Everything that says that this template is one, and which. */
async function judgeTemplate(image: string, kind: GuestKind, { result }: Ran): Promise<string[]> {
  const vmid = result?.template?.vmid ?? 0
  const version = result?.template?.version
  const guest = { kind, node: 'lab', vmid }
  const config = await known(() => readConfig(pve, guest)).catch((error: Error) => error.message)
  if (typeof config === 'string') return [`the template is not there: ${config}`]
  const template = (await templates(image)).find((one) => one.vmid === vmid)
  const marks = template?.marks
  const note = await known(() => readNote(pve, guest))
  const disk = String(config[kind === 'vm' ? 'scsi0' : 'rootfs']).split(',')[0] as string
  const { volumes } = await known(() => inventory(pve))
  const { stdout } = await command('resolve', image)
  return [
    ...(config.template ? [] : ['its configuration does not say template']),
    ...(marks?.state === 'current' ? [] : [`its tags are ${config.tags}`]),
    ...(marks?.version === version ? [] : [`its tags say version ${marks?.version}, not ${version}`]),
    ...(marks?.verified === undefined ? ['its tags do not say that it was verified'] : []),
    ...(note?.version === version ? [] : [`its note says version ${note?.version}, not ${version}`]),
    ...(/base-\d+-disk/.test(disk) && volumes.includes(disk) ? [] : [`its disk ${disk} is not there`]),
    ...(stdout === `${vmid}` ? [] : [`resolve gives ${stdout}, not ${vmid}`]),
  ]
}

const TEMPORARY = /\bib-(claim|building|kept)\b/

/** Of the range: what is no template, and volumes that no guest has. */
async function leftBehind(): Promise<string[]> {
  const guests = (await known(() => nodeGuests(pve, 'lab'))).filter(
    ({ vmid }) => vmid >= RANGE.first && vmid <= RANGE.last,
  )
  const { volumes } = await known(() => inventory(pve))
  const used = await Promise.all(
    guests.map((guest) => known(() => readConfig(pve, { ...guest, node: 'lab' })).then(JSON.stringify)),
  )
  const ownerless = volumes.filter((volid) => {
    const vmid = Number(/\/(?:vm|base)-(\d+)-/.exec(volid)?.[1] ?? 0)
    const isOurs = (vmid >= RANGE.first && vmid <= RANGE.last) || volid.includes(':iso/')
    return isOurs && !used.some((config) => config.includes(volid))
  })
  return [
    ...guests
      .filter(({ tags = '', template }) => TEMPORARY.test(tags) || !template)
      .map(({ vmid, tags }) => `${vmid} ${tags ?? ''}`),
    ...ownerless,
  ]
}

const figures: Record<string, number> = {}
const count = (what: string, by = 1) => {
  figures[what] = (figures[what] ?? 0) + by
}

/** One build, and what is wrong about it. */
async function build(image: string, kind: GuestKind, turn: number): Promise<string[]> {
  await tiny.project.write(definitions[kind](image, turn))
  const ran = await run(image, kind)
  // The hook of the last container that was stopped may still be at work, and nothing tells of its end.
  await delay(4000)
  const wrong = judgeEnd(ran)
  const isDone = ran.exitCode === 0
  if (isDone) wrong.push(...(await judgeTemplate(image, kind, ran)))
  const left = await leftBehind()
  const told = ran.events.some(({ type }) => type === 'leak')
  if (left.length > 0 && !told) wrong.push(`left behind without a word: ${left.join(', ')}`)
  if (left.length > 0 && told) count('leaks told')
  count('commands repeated', (await command('prune')).failed)
  const still = await leftBehind()
  if (still.length > 0) wrong.push(`left behind after prune: ${still.join(', ')}`)
  if (!isDone) console.log(`${image} ${turn}: ${JSON.stringify(ran.result?.error)}`)
  count(`${kind}: ${wrong.length > 0 ? 'wrong' : isDone ? 'built' : 'a clear error'}`)
  return wrong.length === 0 ? [] : [...wrong, `exit ${ran.exitCode}`, ran.stderr]
}

/** Back to the version before, and forth again. */
async function backAndForth(image: string): Promise<string[]> {
  const wrong: string[] = []
  const vmidOf = async (selector: string) => (await command('resolve', `${image}@${selector}`)).stdout
  const [current, previous] = [await vmidOf('current'), await vmidOf('previous')]
  for (const [step, expected] of [
    [['rollback', image], previous],
    [['promote', `${image}@previous`], current],
  ] as const) {
    const { exitCode, stderr } = await imagebuild(...step)
    let now = await vmidOf('current')
    // Where it has failed it may have been done all the same; only else it is done again.
    if (exitCode !== 0) console.log(`${step.join(' ')}: ${stderr}`)
    if (exitCode !== 0 && now !== expected) {
      await command(...step)
      now = await vmidOf('current')
      count('commands repeated')
    }
    if (now !== expected) wrong.push(`after ${step.join(' ')} resolve gives ${now}, not ${expected}`)
  }
  return wrong
}

async function rounds(image: string, kind: GuestKind, total: number): Promise<void> {
  const wrong: string[] = []
  for (let turn = 1; turn <= total; turn += 1) {
    const said = await build(image, kind, turn).catch((error: Error) => [error.message])
    if (said.length === 0 && turn % 2 === 0 && (await templates(image)).length > 1)
      said.push(...(await backAndForth(image).catch((error: Error) => [error.message])))
    console.log(`${image} ${turn}/${total}: ${said.length === 0 ? 'right' : said.join('\n  ')}`)
    wrong.push(...said.map((text) => `${image} ${turn}: ${text}`))
  }
  expect(wrong).toEqual([])
  // All may fail once; a client that never gets through is none.
  expect(figures[`${kind}: built`] ?? 0).toBeGreaterThanOrEqual(total / 2)
}

const HOUR = 3_600_000
test('containers, rebuilt, rolled back and pruned', { timeout: 2 * HOUR }, () =>
  rounds('busy-ct', 'lxc', CONTAINERS),
)
test.skipIf(MACHINES === 0)('virtual machines', { timeout: 4 * HOUR }, () =>
  rounds('busy-vm', 'vm', MACHINES),
)

test('the lab was as bad as it was told to be', () => {
  const lines = Object.entries({ ...figures, ...neighbour.seen }).map(([what, n]) => `${what}: ${n}`)
  console.log(`seed ${SEED}\n${lines.join('\n')}`)
  for (const n of Object.values(neighbour.seen)) expect(n).toBeGreaterThan(0)
})
