import type { Invocation } from '../src/cli/invocation.ts'
import { installMissing } from '../src/cli/prerequisites.ts'
import { formatTable } from '../src/cli/table.ts'
import { SecretRegistry } from '../src/core/secrets.ts'
import { loadProject } from '../src/definition/load.ts'
import { catalogIds } from '../src/source/catalog.ts'
import { interruptSignal } from './interrupt.ts'
import { ourBuild, prepareOurs } from './our-build.ts'
import { packerBuild, preparePacker } from './packer-build.ts'
import { median } from './statistics.ts'
import { PHASES, type TimedBuild } from './timed-build.ts'
import { IMAGE, makeWorkspace } from './workspace.ts'

/**
 * `npm run bench:packer [rounds]`: the same image, built by us on the lab and by Packer's qemu builder, in turns.
 *
 * Both start from the same local qcow2 (ours already on the lab's storage), with the same accelerator, CPU model,
 * cores, memory and cloud-init seed, run the same commands and the same seal.sh, and end with a disk that can be
 * cloned: ours as a template with its marks, Packer's as a qcow2 file. What counts is the wall time of the whole
 * process, as a user waits for it.
 */
const LIMIT = 0.75

const rounds = Number(process.argv[2] ?? 2)
if (!Number.isInteger(rounds) || rounds < 1) throw new Error('usage: npm run bench:packer [rounds]')

process.exitCode = (await compare(interruptSignal())) ? 0 : 1

async function compare(signal: AbortSignal): Promise<boolean> {
  await using workspace = await makeWorkspace()
  Object.assign(process.env, workspace.env)
  await installMissing([{ command: 'packer', package: 'packer' }], (event) => {
    if ('message' in event) console.error(event.message)
  })
  const invocation: Invocation = {
    version: 'bench',
    secrets: new SecretRegistry(),
    signal,
    debug: false,
    say: (message) => console.error(message),
  }
  const project = await loadProject(`${workspace.project}/imagebuild.yaml`, {
    releases: catalogIds(),
    hardeningItems: [],
    endOfLife: () => undefined,
    images: [IMAGE],
  })
  const image = project.images.get(IMAGE)
  if (image?.kind !== 'vm') throw new Error(`there is no virtual machine ${IMAGE}`)
  const disk = await prepareOurs(invocation, project, image)
  const job = await preparePacker(workspace, image, disk.path, signal)

  const ours: TimedBuild[] = []
  const packers: TimedBuild[] = []
  const both = [
    { name: 'imagebuild', results: ours, build: () => ourBuild(workspace, signal) },
    { name: 'packer', results: packers, build: () => packerBuild(job, signal) },
  ]
  for (let round = 1; round <= rounds; round++) {
    // Who comes first has a colder machine, or a busier one: take turns.
    for (const { name, results, build } of round % 2 === 1 ? both : both.toReversed()) {
      const result = await build()
      results.push(result)
      console.error(`round ${round}: ${name} ${result.seconds.toFixed(1)} s`)
    }
  }
  return report(ours, packers)
}

/** Prints phases and wall times. @returns whether the limit is kept */
function report(ours: readonly TimedBuild[], packers: readonly TimedBuild[]): boolean {
  const row = (phase: string, seconds: (build: TimedBuild) => number) => ({
    phase,
    imagebuild: median(ours.map(seconds)).toFixed(1),
    packer: median(packers.map(seconds)).toFixed(1),
  })
  const rows = [
    ...PHASES.map((phase) => row(phase, (build) => build.phases[phase])),
    row('whole', (build) => build.seconds),
  ]
  const ratio = median(ours.map(({ seconds }) => seconds)) / median(packers.map(({ seconds }) => seconds))
  const kept = ratio <= LIMIT
  process.stdout.write(`Seconds of wall time, medians of ${ours.length} builds each:\n\n`)
  process.stdout.write(formatTable(['phase', 'imagebuild', 'packer'], rows))
  process.stdout.write(
    `\nimagebuild/packer: ${ratio.toFixed(2)}, limit ${LIMIT}: ${kept ? 'pass' : 'FAIL'}\n`,
  )
  return kept
}
