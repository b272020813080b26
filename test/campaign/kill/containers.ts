import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { tinySource } from '../tiny-system.ts'
import { type Ground, openGround } from './ground.ts'
import { BEGUN, killAt, type Point, pointsOf } from './points.ts'
import { killEverywhere, makeBase, type Outcome, type Scenario } from './rounds.ts'

/** A minimal container, built and pruned, killed wherever that can be. */

/** Versions that are kept; the base has as many, so that each promotion has an old one to remove. */
const KEEP = 2
/** Grounds that are worked on at once: most of the time is waiting. */
const GROUNDS = 2

export interface Part {
  /** of the points of a build, its conversion and its verification, every such one is taken; of all else, each */
  stride: number
  /** a prune that finishes a swap is killed too, at each point: the longest scenario, of what swap and prune do alone */
  alsoPruneInWindow: boolean
  /** killed before each call, too: the server is then in the state in which the call before has left it */
  alsoBefore: boolean
}

export async function killContainers(part: Part): Promise<Outcome[]> {
  const { stride, alsoPruneInWindow, alsoBefore } = part
  await using stack = new AsyncDisposableStack()
  const folder = await mkdtemp(join(tmpdir(), 'imagebuild-kill-'))
  stack.defer(() => rm(folder, { recursive: true, force: true }))
  const source = await tinySource(folder)
  const open = async (owner: AsyncDisposableStack, name: string, template = '') => {
    const grounds: Ground[] = []
    for (let index = 0; index < GROUNDS; index += 1) {
      const definition = (turn: number, { first }: Ground['vmids']) =>
        [
          source,
          'hardware: { rootfs: 512M }',
          `provision:\n  - shell: echo ${BEGUN}; echo ${turn} > /etc/turn; sleep 0.2`,
          `template: { keep: ${KEEP}${template.replace('FIXED', String(first + 60))} }`,
        ].join('\n')
      const at = { index: grounds.length, storage: 'local-lvm' }
      grounds.push(owner.use(await openGround({ name: `${name}${index}`, kind: 'lxc', ...at, definition })))
    }
    await Promise.all(grounds.map((ground) => makeBase(ground, KEEP)))
    return grounds
  }
  const some = (of: (points: readonly Point[]) => readonly Point[]) => (points: readonly Point[]) =>
    of(points).filter((_, index) => index % stride === 0)
  const each = (of: (points: readonly Point[]) => readonly Point[]) => (points: readonly Point[]) =>
    of(points).filter(({ at }, index) => alsoBefore || index === 0 || at !== 'before')
  const outcomes: Outcome[] = []
  const kill = async (grounds: readonly Ground[], scenarios: readonly Omit<Scenario, 'keep'>[]) => {
    for (const scenario of scenarios)
      outcomes.push(await killEverywhere(grounds, { of: each(between(0)), ...scenario, keep: KEEP }))
  }
  {
    await using owner = new AsyncDisposableStack()
    const grounds = await open(owner, 'ct')
    await kill(grounds, [
      { name: 'run: build', command: 'run', of: some(between(0, CONVERT)) },
      { name: 'run: convert', command: 'run', of: some(between(CONVERT, VERIFY)) },
      { name: 'run: verify', command: 'run', of: some(between(VERIFY, decisionOf)) },
      { name: 'run: promote and retire', command: 'run', of: each(between(decisionOf)) },
      ...(await prunes(grounds[0] as Ground)),
    ])
    // They have one source between them, so one at a time may take it away.
    await kill(grounds.slice(0, 1), [
      { name: 'run: upload', command: 'run', prepare: (one) => removeSource(one, source), of: uploads },
    ])
  }
  {
    await using owner = new AsyncDisposableStack()
    const grounds = await open(owner, 'fix', ', vmid: FIXED')
    await kill(grounds, [
      { name: 'run: swap', command: 'run', of: each(between(decisionOf)) },
      ...(alsoPruneInWindow ? [await pruneInWindow(grounds[0] as Ground)] : []),
    ])
  }
  return outcomes
}

const args = (ground: Ground) => ['run', ground.image, '--json']
const answered = (points: readonly Point[]) => points.filter(({ at }) => at === 'after')

const uploads = (points: readonly Point[]) => points.filter(({ label }) => label.endsWith('/upload'))

/** Then it has to be uploaded again. */
async function removeSource({ pve, node }: Ground, source: string): Promise<void> {
  const storage = pve.api.nodes.$(node).storage.$('local').content
  const [, digest = ''] = /sha256:([0-9a-f]{32})/.exec(source) ?? []
  for (const { volid } of await storage.$get({ content: 'vztmpl' })) {
    if (!volid.includes(`ib-source-${digest}`)) continue
    const upid = (await storage.$(volid).$delete({ delay: 5 })) as string | null
    if (upid !== null) await pve.waitTask(upid, { seconds: 60 })
  }
}

type Place = number | string | ((points: readonly Point[]) => number)

const [CONVERT, VERIFY] = ['converting to a template', 'booting two clones']

/** Points from one place on to the next; a text is a step’s label. */
function between(from: Place, to: Place = Number.POSITIVE_INFINITY) {
  return (points: readonly Point[]) => {
    const index = (place: Place) => {
      if (typeof place === 'number') return place
      const found =
        typeof place === 'function'
          ? place(points)
          : points.findIndex(({ at, label }) => at === 'event' && label === place)
      if (found < 0) throw new Error(`the run has no step “${place}”`)
      return found
    }
    return points.slice(index(from), index(to))
  }
}

/** Where the clones are gone: what follows marks the candidate as proven, makes it count, and retires others. */
function decisionOf(points: readonly Point[]): number {
  const stopped = points.findLastIndex(({ label }) => label.endsWith('/status/stop'))
  return points.findIndex(({ label }, index) => index > stopped && label.startsWith('PUT'))
}

/** What prune finds when a run was killed while booting, while verifying, and when it had just promoted. */
async function prunes(ground: Ground): Promise<Omit<Scenario, 'keep'>[]> {
  await ground.change()
  const points = await pointsOf(ground, args(ground))
  const starts = answered(points).filter(({ label }) => label.endsWith('/status/start'))
  // First it is marked as proven, then as current.
  const marks = answered(points.slice(decisionOf(points)))
  return [
    pruneAfter('boot', starts.at(0)),
    pruneAfter('verify', starts.at(-1)),
    pruneAfter('promote', marks.at(1)),
  ]
}

/** What had the fixed VMID has just gone. */
async function pruneInWindow(ground: Ground): Promise<Omit<Scenario, 'keep'>> {
  await ground.change()
  const swapping = answered(await pointsOf(ground, args(ground))).filter(({ step }) => step === 'swap')
  return pruneAfter(
    'swap’s delete',
    swapping.find(({ label }) => label.startsWith('DELETE')),
  )
}

function pruneAfter(name: string, point: Point | undefined): Omit<Scenario, 'keep'> {
  if (point === undefined) throw new TypeError(`the run has no ${name}`)
  const prepare = async (ground: Ground) => {
    const { reached, stderr } = await killAt(ground, args(ground), point)
    if (!reached) throw new Error(`${ground.image} did not come to ${name}:\n${stderr}`)
  }
  return { name: `prune after ${name}`, command: 'prune', prepare }
}
