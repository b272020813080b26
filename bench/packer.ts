import { cacheFolder } from '../src/cli/folders.ts'
import { installMissing, LAB_HOST } from '../src/cli/prerequisites.ts'
import { formatTable } from '../src/cli/table.ts'
import { ImagebuildError } from '../src/core/errors.ts'
import { loadProject } from '../src/definition/load.ts'
import { bootstrapDisk } from '../src/source/bootstrap.ts'
import { catalogIds } from '../src/source/catalog.ts'
import { type FloorJob, floorBuild, prepareFloor } from './floor-build.ts'
import { interruptSignal } from './interrupt.ts'
import { ourBuild, prepareOurs } from './our-build.ts'
import { type PackerJob, packerBuild, preparePacker } from './packer-build.ts'
import { median } from './statistics.ts'
import { PHASES, type TimedBuild } from './timed-build.ts'
import { IMAGES, makeWorkspace } from './workspace.ts'

/**
 * `npm run bench:packer [rounds]`: the same image, built by us on the lab, by Packer's qemu builder, and by QEMU alone, in
 * turns.
 *
 * All start from the same local qcow2 (ours already on the lab's storage), with the same accelerator, CPU model, memory
 * and cloud-config, run the same commands and the same seal.sh, harden and verify nothing, and end with a disk that can be
 * cloned: ours as a template with its marks, the others' as a qcow2 file. What counts is the wall time of the process, as a
 * user waits for it, without the inventory (manifest and SBOM), which the others do not make. That is a row of its own, and
 * what hardening and verification add is measured once, by itself.
 *
 * One round takes some ten minutes on two cores without KVM.
 */
const LIMITS = { packer: 1, floor: 1.15 }

const rounds = Number(process.argv[2] ?? 1)
if (!Number.isInteger(rounds) || rounds < 1) throw new Error('usage: npm run bench:packer [rounds]')

process.exitCode = (await compare(interruptSignal())) ? 0 : 1

async function compare(signal: AbortSignal): Promise<boolean> {
  const say = (line: string) => console.error(line)
  await installMissing(LAB_HOST, (event) => 'message' in event && say(event.message))
  const hasPacker = await packerThere(say)
  const recipe = { distribution: 'debian', suite: 'trixie', arch: 'amd64' } as const
  const disk = await bootstrapDisk(recipe, { cacheDir: cacheFolder(), signal })
  await using workspace = await makeWorkspace(disk)
  Object.assign(process.env, workspace.env)
  const project = await loadProject(`${workspace.project}/imagebuild.yaml`, {
    releases: catalogIds(),
    hardeningItems: [],
    endOfLife: () => undefined,
    images: [IMAGES.plain],
  })
  const image = project.images.get(IMAGES.plain)
  if (image?.kind !== 'vm') throw new Error(`there is no virtual machine ${IMAGES.plain}`)
  await prepareOurs(workspace, IMAGES.plain, signal)
  const floor: FloorJob = await prepareFloor(workspace.folder, image, disk.path, signal)
  const packer: PackerJob | undefined = hasPacker
    ? await preparePacker(workspace, image, disk.path, signal)
    : undefined

  const results = { imagebuild: [] as TimedBuild[], packer: [] as TimedBuild[], floor: [] as TimedBuild[] }
  const builders = [
    { name: 'imagebuild', build: () => ourBuild(workspace, IMAGES.plain, 'off', signal) },
    ...(packer ? [{ name: 'packer', build: () => packerBuild(packer, signal) } as const] : []),
    { name: 'floor', build: () => floorBuild(floor, signal) },
  ] as const
  for (let round = 1; round <= rounds; round++) {
    // Who comes first has a colder machine, or a busier one: take turns.
    for (const { name, build } of round % 2 === 1 ? builders : builders.toReversed()) {
      const result = await build()
      results[name].push(result)
      say(`round ${round}: ${name} ${result.seconds.toFixed(1)} s`)
    }
  }
  const hardened = await ourBuild(workspace, IMAGES.hardened, 'full', signal)
  return report(results, hardened)
}

/** Prints phases and wall times. @returns whether the limits are kept */
function report(
  { imagebuild, packer, floor }: Record<'imagebuild' | 'packer' | 'floor', readonly TimedBuild[]>,
  hardened: TimedBuild,
): boolean {
  const figure = (builds: readonly TimedBuild[], seconds: (build: TimedBuild) => number) =>
    builds.length === 0 ? '' : median(builds.map(seconds)).toFixed(1)
  const row = (phase: string, seconds: (build: TimedBuild) => number, isFloor = false) => ({
    phase,
    imagebuild: figure(imagebuild, seconds),
    packer: figure(packer, seconds),
    floor: isFloor ? figure(floor, seconds) : '',
    hardened: figure([hardened], seconds),
  })
  const rows = [
    ...PHASES.map((phase) => row(phase, ({ phases }) => phases[phase])),
    row('whole', ({ seconds }) => seconds, true),
  ]
  process.stdout.write(`Seconds of wall time, medians of ${imagebuild.length} builds each:\n\n`)
  process.stdout.write(formatTable(['phase', 'imagebuild', 'packer', 'floor', 'hardened'], rows))
  const whole = (builds: readonly TimedBuild[]) =>
    median(builds.map(({ seconds, phases }) => seconds - phases.inventory))
  const ours = whole(imagebuild)
  const verification = hardened.phases.verify
  process.stdout.write(
    `\nhardening adds ${(hardened.seconds - hardened.phases.inventory - verification - ours).toFixed(1)} s, verification ${verification.toFixed(1)} s\n`,
  )
  const compared = [
    ...(packer.length > 0 ? [{ name: 'packer', ratio: ours / whole(packer), limit: LIMITS.packer }] : []),
    { name: 'floor', ratio: ours / whole(floor), limit: LIMITS.floor },
  ]
  for (const { name, ratio, limit } of compared) {
    const verdict = ratio <= limit ? 'pass' : 'FAIL'
    process.stdout.write(
      `imagebuild without its inventory/${name}: ${ratio.toFixed(2)}, limit ${limit}: ${verdict}\n`,
    )
  }
  return compared.every(({ ratio, limit }) => ratio <= limit)
}

/** Debian 13 has no package of it. */
async function packerThere(say: (line: string) => void): Promise<boolean> {
  try {
    await installMissing([{ command: 'packer', package: 'packer' }], (event) => {
      if ('message' in event) say(event.message)
    })
    return true
  } catch (error) {
    if (!(error instanceof ImagebuildError) || error.code !== 'prerequisite_missing') throw error
    say(
      `${error.message}: Packer is not measured. Debian 13 does not package it; put a \`packer\` on PATH to have it compared`,
    )
    return false
  }
}
