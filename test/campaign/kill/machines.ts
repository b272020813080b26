import type { Template } from '../../../src/pve/templates.ts'
import { BOOTSTRAP_DEBIAN_12 } from '../../e2e/harness.ts'
import type { Call } from '../proxy.ts'
import { current, removeCandidates } from './findings.ts'
import { openGround } from './ground.ts'
import { BEGUN, type Point } from './points.ts'
import { killOnce, type Outcome, type Round, tell } from './rounds.ts'

/** A virtual machine, killed at some points. An emulated one needs minutes, so what one run leaves the next begins with. */

const KEEP = 2

interface Stage {
  point: Point
  next: Round['next']
  /** what the kill leaves is what the next stage begins with */
  goesOn?: true
  /** left out of the sample, which CI runs at each change: an emulated machine takes minutes */
  onlyInFull?: true
}

const post =
  (path: RegExp, name = '') =>
  (call: Call) =>
    call.method === 'POST' && path.test(call.path) && (call.body?.get('name') ?? '').startsWith(name)

const at = (step: string, point: Partial<Point>): Point => ({
  at: 'after',
  n: 1,
  label: step,
  step,
  ...point,
})

const STAGES: readonly Stage[] = [
  { point: at('create', { match: post(/\/qemu$/, 'ib-build-') }), next: 'prune', onlyInFull: true },
  {
    point: at('boot', { at: 'event', event: (one) => one.type === 'step.start' && one.step === 'boot' }),
    next: 'prune',
    onlyInFull: true,
  },
  {
    point: at('layer', { at: 'event', event: (one) => one.type === 'output' && one.line === BEGUN }),
    next: 'prune',
  },
  { point: at('convert', { match: post(/\/template$/) }), next: 'prune', onlyInFull: true },
  // The machine that is built, and then two clones of it.
  { point: at('verify', { n: 3, match: post(/\/status\/start$/) }), next: 'prune', goesOn: true },
  {
    point: at('promote', { match: ({ body }) => /(^|;)ib-current(;|$)/.test(body?.get('tags') ?? '') }),
    next: 'run',
  },
]

/** @param full at all six points; else at the three that leave most behind: a running build, its clones, a half-done promotion */
export async function killMachine({ full }: { full: boolean }): Promise<Outcome> {
  const stages = STAGES.filter(({ onlyInFull }) => full || !onlyInFull)
  await using ground = await openGround({
    ...{ name: 'vm', kind: 'vm', index: 2, storage: 'local' },
    definition: (turn) =>
      [
        // The virtual machine of Debian 12 that is built for each commit.
        BOOTSTRAP_DEBIAN_12,
        'hardware: { cores: 1, memory: 768, disk: 4G }',
        `provision:\n  - shell: echo ${BEGUN}; echo ${turn} > /etc/turn; sleep 1`,
        `template: { keep: ${KEEP} }`,
      ].join('\n'),
  })
  await ground.change()
  // Only what comes after it must be proven.
  const { exitCode, stderr } = await ground.direct(['run', ground.image, '--verify', 'off'])
  if (exitCode !== 0) throw new Error(`the base cannot be built:\n${stderr}`)
  await ground.change()
  const rounds: Round[] = []
  for (const { point, next, goesOn } of stages) {
    const before = (await current(ground)) as Template
    const scenario = { name: 'run of a VM', command: 'run', keep: KEEP } as const
    const { round, candidates } = await killOnce(ground, scenario, { point, next, before })
    rounds.push(round)
    tell(round, `${rounds.length}/${stages.length}`)
    if (!goesOn) await removeCandidates(ground, candidates)
  }
  return { scenario: 'run of a VM', points: stages.length, rounds }
}
