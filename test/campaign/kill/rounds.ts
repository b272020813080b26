import type { Template } from '../../../src/pve/templates.ts'
import { current, findOrphans, removeCandidates, wrongTemplate } from './findings.ts'
import type { Ground } from './ground.ts'
import { killAt, type Point, pointsOf } from './points.ts'

/** One command, killed at every point of it. */
export interface Scenario {
  name: string
  command: 'run' | 'prune'
  /** what is there when the command begins; without it, a changed definition */
  prepare?: (ground: Ground) => Promise<void>
  /** versions that the definition keeps */
  keep: number
  /** of all points of the command: those that this is about */
  of?: (points: readonly Point[]) => readonly Point[]
}

/** What was seen at one point. */
export interface Round {
  scenario: string
  point: Point
  next: 'run' | 'prune'
  reached: boolean
  /** what was wrong with the template that counts, or with how the next command ended */
  problems: string[]
  /** after the next command */
  orphans: string[]
}

export interface Outcome {
  scenario: string
  points: number
  rounds: Round[]
}

/** Two finished versions, the newer one current. */
export async function makeBase(ground: Ground, versions: number): Promise<void> {
  for (let n = 0; n < versions; n += 1) {
    await ground.change()
    const { exitCode, stderr } = await ground.direct(['run', ground.image])
    if (exitCode !== 0) throw new Error(`the base of ${ground.name} cannot be built:\n${stderr}`)
  }
}

/** Kills at all chosen points, on several grounds at once. */
export async function killEverywhere(grounds: readonly Ground[], scenario: Scenario): Promise<Outcome> {
  const [first] = grounds
  if (first === undefined) throw new TypeError('no ground')
  await prepare(first, scenario)
  const all = await pointsOf(first, argsOf(first, scenario))
  await removeCandidates(first, (await findOrphans(first, scenario.keep)).candidates)
  const { of = (points) => points } = scenario
  const points = of(all)
  const queue = points.map((point, index) => ({ point, next: index % 2 === 0 ? 'run' : 'prune' }) as const)
  const rounds: Round[] = []
  await Promise.all(
    grounds.map(async (ground) => {
      for (let one = queue.shift(); one !== undefined; one = queue.shift()) {
        const done = await round(ground, scenario, one.point, one.next)
        rounds.push(done)
        tell(done, `${rounds.length}/${points.length}`)
      }
    }),
  )
  return { scenario: scenario.name, points: points.length, rounds }
}

async function prepare(ground: Ground, scenario: Scenario): Promise<void> {
  await ground.change()
  await scenario.prepare?.(ground)
}

function argsOf(ground: Ground, { command }: Scenario): string[] {
  return command === 'run' ? ['run', ground.image, '--json'] : ['prune']
}

async function round(ground: Ground, scenario: Scenario, point: Point, next: Round['next']): Promise<Round> {
  await prepare(ground, scenario)
  const before = (await current(ground)) as Template
  const { round: done, candidates } = await killOnce(ground, scenario, { point, next, before })
  await removeCandidates(ground, candidates)
  return done
}

/** Kills the command, looks, lets the next command come, and looks again. */
export async function killOnce(
  ground: Ground,
  scenario: Scenario,
  { point, next, before }: { point: Point; next: Round['next']; before: Template },
): Promise<{ round: Round; candidates: Template[] }> {
  const problems: string[] = []
  const look = async (when: string) => {
    for (const wrong of await wrongTemplate(ground, before)) problems.push(`${when}: ${wrong}`)
  }
  const killed = await killAt(ground, argsOf(ground, scenario), point)
  if (!killed.reached && killed.exitCode !== 0)
    problems.push(`it ended with ${killed.exitCode} before it was killed: ${killed.stderr.slice(-500)}`)
  await look('after the kill')
  const { exitCode, stdout, stderr } = await ground.direct(next === 'run' ? ['run', ground.image] : ['prune'])
  if (exitCode !== 0) problems.push(`the next ${next} ends with ${exitCode}: ${stdout}${stderr.slice(-1500)}`)
  await look(`after the next ${next}`)
  const { orphans, candidates } = await findOrphans(ground, scenario.keep)
  const { reached } = killed
  return { round: { scenario: scenario.name, point, next, reached, problems, orphans }, candidates }
}

/** One line, so that whoever waits sees that it goes on. */
export function tell({ scenario, point, next, reached, problems, orphans }: Round, count: string): void {
  const where = `${point.at} ${point.n} ${point.label} (${point.step})`
  const what = [...problems, ...orphans.map((text) => `orphan ${text}`), ...(reached ? [] : ['not reached'])]
  process.stdout.write(
    `${scenario} ${count}: killed ${where}, then ${next}: ${what.length === 0 ? 'well' : what.join('\n  ')}\n`,
  )
}

/** One line for each scenario, then what was wrong. */
export function table(outcomes: readonly Outcome[]): string {
  const rows = outcomes.map(({ scenario, points, rounds }) => {
    const count = (is: (round: Round) => boolean) => String(rounds.filter(is).length)
    const orphans = rounds.reduce((sum, round) => sum + round.orphans.length, 0)
    return [
      ...[scenario, String(points), count((one) => one.reached)],
      ...[
        count((one) => !one.reached),
        count((one) => one.next === 'run'),
        count((one) => one.next === 'prune'),
      ],
      ...[count((one) => one.problems.length > 0), String(orphans)],
    ]
  })
  const head = ['killed', 'points', 'kills', 'missed', 'then run', 'then prune', 'wrong', 'orphans']
  const sums = head.map((_, at) =>
    at === 0 ? 'in all' : String(rows.reduce((sum, row) => sum + Number(row[at]), 0)),
  )
  const lines = [head, ...rows, sums]
  const widths = head.map((_, at) => Math.max(...lines.map((line) => (line[at] as string).length)))
  return lines
    .map((line) =>
      line
        .map((cell, at) =>
          at === 0 ? cell.padEnd(widths[at] as number) : cell.padStart(widths[at] as number),
        )
        .join('  '),
    )
    .join('\n')
}

/** For a test's expectation: everything that is not as it must be. */
export function faults(outcomes: readonly Outcome[]): string[] {
  return outcomes.flatMap(({ rounds }) =>
    rounds.flatMap(({ scenario, point, next, reached, problems, orphans }) =>
      [...problems, ...orphans, ...(reached ? [] : ['it was over before'])].map(
        (text) => `${scenario}, ${point.at} ${point.n} ${point.label}, then ${next}: ${text}`,
      ),
    ),
  )
}
