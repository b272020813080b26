import { appendFile, mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { execa } from 'execa'
import { packageListFile } from '../src/build/package-lists.ts'
import { PACKAGES, sha256Of } from '../src/build/records.ts'
import { openProject } from '../src/cli/project.ts'
import { SecretRegistry } from '../src/core/secrets.ts'
import { GuestStore } from '../src/lab/api/guests/store.ts'
import { ensureLab } from '../src/lab/lab.ts'
import { digestOfChecks, makePlan, sourceRequest } from '../src/plan/plan.ts'
import type { ImageState } from '../src/plan/staleness.ts'
import { type Note, renderNote, toTags } from '../src/pve/marks.ts'
import { bootstrapIdentity } from '../src/source/bootstrap-recipe.ts'
import { sourceOf } from '../src/updates/apt-source.ts'
import { formatPackageList } from '../src/updates/package-list.ts'
import { SigningKey } from '../test/updates/signed-archive.ts'
import { DEFINITIONS, fill } from './definitions.ts'
import { makeArchive, nameOf, SUITES, serveFolder, VERSION } from './package-archive.ts'
import { PeakMemory } from './peak-memory.ts'
import { type Measured, median } from './statistics.ts'
import { makeWorkspace, ROOT } from './workspace.ts'

const MIB = 2 ** 20
const ROUNDS = 5

/** Seconds and bytes that it may take, with an empty cache and with a full one. */
const SECONDS = 5
const BYTES = 300 * MIB

/** Packages of an image, and how many images are built with an older one of them. */
const INSTALLED = 450
const STALE = 10

/**
 * `ci plan` of many images, each with a template and a committed record of its packages, against suites of the size of
 * Debian's; beside a process that only unpacks the same lists, and `plan` of the same definitions.
 */
export async function measureCiPlan(signal: AbortSignal): Promise<Measured[]> {
  await using workspace = await makeWorkspace()
  using key = new SigningKey()
  const archive = join(workspace.folder, 'archive')
  const lists = await makeArchive(archive, key)
  await using server = await serveFolder(archive)
  await fill(workspace.project)
  await nameRepositories(workspace.project, server.url, key)
  const lab = workspace.env.IMAGEBUILD_LAB_DIR ?? ''
  await putTemplates(workspace.project, lab, server.url, signal)
  const { endpoint, token, fingerprint } = await ensureLab({ dir: lab, signal, emit: () => {} })
  await writeFile(
    join(workspace.project, 'imagebuild.yaml'),
    `namespace: bench\ntarget: lab\ntargets:\n  lab: { kind: pve, endpoint: "${endpoint}", fingerprint: "${fingerprint}", node: lab, storages: { disks: local, images: local } }\n`,
  )
  const times = { unpack: [], plan: [], empty: [], full: [] } as Record<string, number[]>
  let peak = 0
  const measured = async (into: string, program: string, args: readonly string[], cache = 'cache') => {
    const env = {
      ...workspace.env,
      PROXMOX_VE_API_TOKEN: token,
      IMAGEBUILD_CACHE_DIR: join(workspace.folder, cache),
      no_proxy: '127.0.0.1',
      NO_PROXY: '127.0.0.1',
    }
    const started = performance.now()
    const running = execa(program, args, {
      ...{ cwd: workspace.project, env, stdin: 'ignore', cancelSignal: signal, maxBuffer: 2 ** 28 },
    })
    using memory = new PeakMemory(running.pid as number)
    const { stdout } = await running
    times[into]?.push((performance.now() - started) / 1000)
    return { stdout, peak: memory.peak }
  }
  const program = join(ROOT, 'imagebuild')
  const unpack = ['-c', 'for list; do xz --decompress --stdout < "$list" > /dev/null; done', 'sh', ...lists]
  for (let round = -1; round < ROUNDS; round++) {
    // The first fills Node's compile cache.
    if (round === 0) for (const list of Object.values(times)) list.length = 0
    await measured('unpack', 'sh', unpack)
    await measured('plan', program, ['plan'])
    for (const [into, cache] of [
      ['empty', `cache-${round}`],
      ['full', `cache-${round}`],
    ] as const) {
      const { stdout, peak: one } = await measured(into, program, ['ci', 'plan', '--json'], cache)
      check(JSON.parse(stdout) as { images: ImageState[] })
      peak = Math.max(peak, one)
    }
  }
  const of = (name: string) => median(times[name] ?? [])
  const seconds = (name: string) => `${of(name).toFixed(2)} s`
  const row = (what: string, name: string): Measured => ({
    ...{ what, figure: seconds(name), limit: `at most ${SECONDS} s`, kept: of(name) <= SECONDS },
  })
  const packages = Object.values(SUITES).reduce((sum, count) => sum + count, 0)
  return [
    { what: `xz: unpacking lists of ${packages} packages`, figure: seconds('unpack') },
    { what: `plan of ${DEFINITIONS} images`, figure: seconds('plan') },
    row(`ci plan of ${DEFINITIONS} images and their records, empty cache`, 'empty'),
    row('the same again', 'full'),
    {
      what: 'its peak memory, with all that it starts',
      figure: `${(peak / MIB).toFixed(0)} MiB`,
      limit: `at most ${BYTES / MIB} MiB`,
      kept: peak <= BYTES,
    },
  ]
}

/** What is measured must be the whole thing. */
function check({ images }: { images: ImageState[] }): void {
  const stale = images.filter(({ reasons }) => reasons.some(({ kind }) => kind === 'security'))
  const fresh = images.filter(({ state }) => state === 'fresh')
  if (stale.length === STALE && fresh.length === DEFINITIONS - STALE) return
  const odd = images.find(({ image, state }) => state !== 'fresh' && !isOld(image)) ?? images[0]
  throw new Error(`${stale.length} stale and ${fresh.length} fresh images: ${JSON.stringify(odd)}`)
}

const isOld = (image: string) => Number(image.replace(/^\D+/, '')) < STALE

async function nameRepositories(project: string, url: string, key: SigningKey): Promise<void> {
  const repositories = Object.keys(SUITES).map(
    (suite) =>
      `    - { url: "${url}/debian", suite: ${suite}, key: key.asc, security: ${suite.endsWith('-security')} }\n`,
  )
  for (let index = 0; index < DEFINITIONS; index++) {
    const folder = join(project, 'images', `web-${index}`)
    await writeFile(join(folder, 'key.asc'), key.armored())
    await appendFile(join(folder, 'image.yaml'), `\nupdates:\n  repositories:\n${repositories.join('')}`)
  }
}

/** A verified template of each definition, as if it had been built, with its record. */
async function putTemplates(root: string, lab: string, url: string, signal: AbortSignal): Promise<void> {
  const invocation = { version: '0', secrets: new SecretRegistry(), signal, debug: false }
  const project = await openProject({ ...invocation, config: join(root, 'imagebuild.yaml') })
  const state = join(lab, 'state/guests')
  await mkdir(state, { recursive: true, mode: 0o700 })
  await mkdir(join(packageListFile(root, { target: 'lab', image: 'web' }), '..'), { recursive: true })
  const store = new GuestStore(state, 'lab')
  const recipe = { distribution: 'debian', suite: 'trixie', arch: 'amd64', packages: [] } as const
  const identity = bootstrapIdentity(recipe)
  const version = '20260101.1'
  let vmid = 10_000
  for (const image of project.images.values()) {
    vmid += 1
    const plan = makePlan(image, { sourceIdentity: identity, ssh: { authorities: [] } })
    const text = recordOf(image.name, url)
    await writeFile(packageListFile(root, { target: 'lab', image: image.name }), text)
    const note: Note = {
      ...{ schema: 1, vmid, namespace: 'bench', image: image.name, kind: 'vm', tool: '0', run: 'r', version },
      digest: plan.digest,
      built: new Date().toISOString(),
      source: { request: sourceRequest(image.source), identity, version: 'trixie', fallback: false },
      verify: {
        ...{ at: '', passed: 1, failed: 0, skipped: 0, left: 0, certificates: 'passed' },
        ...{ inside: 'verified', checks: digestOfChecks(plan.checks) },
      },
      artifacts: { [PACKAGES]: sha256Of(text) },
    }
    const marks = { vmid, namespace: 'bench', image: image.name, state: 'current', version } as const
    const guest = store.add(vmid, {
      ...{ name: `${image.name}-${version}`, cores: 2, memory: '2048', ostype: 'l26', template: 1 },
      ...{ tags: toTags(marks), description: renderNote(note) },
    })
    await store.save(guest)
  }
}

function recordOf(image: string, url: string): string {
  const sources = Object.keys(SUITES).flatMap(
    (suite) => sourceOf({ name: `deb ${url}/debian ${suite}`, components: ['main'], trust: '' }) ?? [],
  )
  const packages = Array.from({ length: INSTALLED }, (_, index) => {
    const name = nameOf(index * 3)
    const version = isOld(image) && index === 0 ? '1.2.3-4' : VERSION
    return {
      name,
      version,
      architecture: 'amd64',
      source: `source-${(index * 3) >> 1}`,
      sourceVersion: version,
    }
  })
  const distribution = { id: 'example', version: '13', codename: 'trixie' }
  return formatPackageList({ image, distribution, architecture: 'amd64', sources, packages })
}
