import { spawn } from 'node:child_process'
import { join } from 'node:path'
import { parseArgs } from 'node:util'

/**
 * `npm run test:campaign`: what is too slow for each commit, part by part. A part that fails stops no other.
 * `-- --sample` does what CI does of it; `-- <part>…` those parts alone.
 */

interface Part {
  name: string
  what: string
  /** on two processors, in minutes: all of it, and the sample; without one, CI leaves it out */
  minutes: { full: number; sample?: number }
  vitest: readonly string[]
  env?: Record<string, string>
}

const campaign = (file: string) => ['--project', 'campaign', `test/campaign/${file}.test.ts`]

const PARTS: readonly Part[] = [
  {
    name: 'runners',
    what: '8 runners at once on one definition, 20 rounds (sample: 3)',
    minutes: { full: 6, sample: 1 },
    vitest: campaign('runners'),
  },
  {
    name: 'clocks',
    what: 'two runners whose clocks are ten minutes apart, 20 rounds (sample: 3)',
    minutes: { full: 8, sample: 1 },
    vitest: campaign('clocks'),
  },
  {
    name: 'pauses',
    what: 'runners that stand still for ten minutes (sample: for some seconds, in which their clock goes on by so much)',
    minutes: { full: 25, sample: 3 },
    vitest: campaign('pauses'),
  },
  {
    name: 'faults',
    what: 'API faults at every call of a build, a promotion and a verification (sample: some of each)',
    minutes: { full: 70, sample: 2 },
    vitest: campaign('faults'),
  },
  {
    name: 'busy',
    what: 'builds on a lab with slow hooks and locks, failing lists and lost connections: 10 containers, 2 virtual machines (sample: 3 containers)',
    minutes: { full: 45, sample: 3 },
    vitest: campaign('busy'),
  },
  {
    name: 'kill',
    what: 'kill -9 at every point of run, swap and prune, on a container (sample: at every fifth point before the promotion, then after each call, and without a prune that finishes a swap)',
    minutes: { full: 22, sample: 7 },
    vitest: campaign('kill'),
  },
  {
    name: 'kill-machine',
    what: 'kill -9 at six points, on a virtual machine (sample: at three)',
    minutes: { full: 15, sample: 7 },
    vitest: campaign('kill-machine'),
  },
  {
    name: 'verify-machine',
    what: 'a spoiled virtual machine is verified',
    minutes: { full: 15 },
    vitest: campaign('verify-machine'),
  },
  {
    name: 'natively',
    what: 'a virtual machine and a container whose packages were installed before they booted, compared with those that installed them',
    minutes: { full: 20 },
    vitest: campaign('natively'),
  },
  {
    name: 'dhcp',
    what: 'ten boots by DHCP (CI, in its end-to-end tests: two)',
    minutes: { full: 20 },
    vitest: ['--project', 'e2e', 'test/e2e/dhcp.test.ts'],
    env: { IMAGEBUILD_TEST_BOOTS: '10' },
  },
]

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { sample: { type: 'boolean', default: false } },
})
const { sample } = values
const wanted = PARTS.filter(
  ({ name, minutes }) =>
    (positionals.length === 0 || positionals.includes(name)) && !(sample && minutes.sample === undefined),
)
const unknown = positionals.filter((name) => !PARTS.some((part) => part.name === name))
if (unknown.length > 0) {
  process.stderr.write(
    `no such part: ${unknown.join(', ')}; there are ${PARTS.map(({ name }) => name).join(', ')}\n`,
  )
  process.exit(64)
}

const minutesOf = ({ minutes }: Part) => (sample ? minutes.sample : undefined) ?? minutes.full
const say = (text: string) => process.stdout.write(`${text}\n`)
say(
  `${sample ? 'the sample of the campaign' : 'the campaign'}: about ${wanted.reduce((sum, part) => sum + minutesOf(part), 0)} minutes`,
)
for (const part of wanted) say(`  ${part.name}, ${minutesOf(part)} min: ${part.what}`)
const left = PARTS.filter((part) => !wanted.includes(part))
if (left.length > 0) say(`not done now: ${left.map(({ name }) => name).join(', ')}`)

const failed: string[] = []
for (const part of wanted) {
  const started = performance.now()
  say(`\n=== ${part.name}`)
  const code = await vitest(part)
  const minutes = ((performance.now() - started) / 60_000).toFixed(1)
  say(`=== ${part.name}: ${code === 0 ? 'passed' : 'failed'} after ${minutes} min`)
  if (code !== 0) failed.push(part.name)
}
say(failed.length === 0 ? '\nall parts passed' : `\nfailed: ${failed.join(', ')}`)
process.exitCode = failed.length === 0 ? 0 : 1

function vitest({ vitest, env }: Part): Promise<number> {
  const root = join(import.meta.dirname, '../..')
  const program = join(root, 'node_modules/vitest/vitest.mjs')
  const reporters = ['verbose', 'test/skips.ts', 'test/durations.ts'].map((name) => `--reporter=${name}`)
  const child = spawn(process.execPath, [program, 'run', ...reporters, ...vitest], {
    cwd: root,
    stdio: 'inherit',
    env: { ...process.env, ...env, IMAGEBUILD_CAMPAIGN: sample ? 'sample' : 'full' },
  })
  return new Promise((resolve) => child.once('close', (code) => resolve(code ?? 1)))
}
