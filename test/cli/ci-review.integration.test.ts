import { mkdir, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import Bottleneck from 'bottleneck'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { openGithub } from '../../ci/github.ts'
import type { OpenForge } from '../../src/cli/ci-forge.ts'
import { carryOver, committedFiles, type RecordsAt, writeRecords } from '../../src/cli/ci-records.ts'
import type { CiResult, ImageOutcome } from '../../src/cli/ci-result.ts'
import { propose } from '../../src/cli/ci-review.ts'
import type { Locked } from '../../src/cli/lockfile.ts'
import { SecretRegistry } from '../../src/core/secrets.ts'
import { formatPackageList } from '../../src/updates/package-list.ts'
import { serveGithub } from '../ci/github-server.ts'

const BRANCH = 'imagebuild/rebuild-home'
const LOCK = 'imagebuild.lock.json'

let github: Awaited<ReturnType<typeof serveGithub>>
let folder: string
beforeEach(async () => {
  github = await serveGithub()
  github.git.push('main', { 'README.md': 'images\n' })
  folder = await mkdtemp(join(tmpdir(), 'imagebuild-review-'))
})
afterEach(async () => {
  await github[Symbol.asyncDispose]()
  await rm(folder, { recursive: true })
  vi.unstubAllEnvs()
  expect(github.wrong).toEqual([])
})

/** A checkout of what main has. */
async function checkout(name: string): Promise<RecordsAt> {
  const root = join(folder, name)
  await mkdir(root)
  const at = { root, repository: root, target: 'home' }
  const main = github.git.filesAt(github.git.branches.get('main') ?? '')
  await carryOver(at, async (path) => main[path])
  return at
}

async function open(secrets = new SecretRegistry()): Promise<OpenForge> {
  vi.stubEnv('TOKEN_OF_TESTS', 'ghs_app-of-the-tests')
  const settings: Parameters<typeof openGithub>[0] = {
    ...{ kind: 'github', api: github.api, owner: 'acme', repo: 'images', token: 'env:TOKEN_OF_TESTS' },
  }
  const quick = () => new Bottleneck.Group({ maxConcurrent: 1 })
  const pace = { retryAfterBaseValue: 1, write: quick(), notifications: quick() }
  const context = { say: () => {}, signal: new AbortController().signal }
  const forge = await openGithub(settings, secrets, context, pace)
  const commit = github.git.branches.get('main') ?? ''
  return {
    forge,
    secrets,
    branch: BRANCH,
    base: () => forge.defaultBranch(),
    started: { commit, log: 'https://ci/7' },
  }
}

const list = (image: string, version: string) =>
  formatPackageList({
    ...{ image, distribution: { id: 'debian', version: '13', codename: 'trixie' } },
    ...{ architecture: 'amd64', sources: [] },
    packages: [{ name: 'apt', version, architecture: 'amd64', source: 'apt', sourceVersion: version }],
  })
const lock = (version: string, vmid: number): Locked => ({
  ...{ version, digest: 'sha256:x', kind: 'vm', built: '2026-12-01T00:00:00Z', templates: { a: vmid } },
})
const write = (at: RecordsAt, image: string, serial: number) =>
  writeRecords(at, image, {
    ...{ lock: lock(`20261201.${serial}`, 9000 + serial), suites: {} },
    lists: [{ node: 'a', text: list(image, `2.${serial}`) }],
  })

const built = (image: string, serial: number): ImageOutcome => ({
  ...{ image, outcome: 'built', reasons: ['age: old'], packages: [], changes: [], seconds: 3 },
  before: { version: `20261201.${serial - 1}`, vmids: { a: 8999 + serial } },
  after: { version: `20261201.${serial}`, vmids: { a: 9000 + serial } },
})
const result = (...images: ImageOutcome[]): CiResult => ({
  ...{ schema: 1, namespace: 'homelab', target: 'home', images, suites: {}, problems: [] },
  ...{ started: '2026-12-01T02:00:00.000Z', ended: '2026-12-01T02:10:00.000Z' },
})

/** A run in a checkout of its own, which takes over what is open. */
async function run(name: string, images: [string, number][], more: ImageOutcome[] = []) {
  const at = await checkout(name)
  const before = await committedFiles(at)
  const one = await open()
  const carried = await carryOver(at, (path) => one.forge.read(one.branch, path))
  for (const [image, serial] of images) await write(at, image, serial)
  const all = [...images.map(([image, serial]) => built(image, serial)), ...more]
  return await propose(one, result(...all), { at, before, carried })
}
const body = () => github.pulls.find(({ state }) => state === 'open')?.body
const merge = () => {
  github.git.push('main', github.git.filesAt(github.git.branches.get(BRANCH) ?? ''))
}

test('what one run has built and nobody has merged is in the next change, too, with its row', async () => {
  await run('first', [['web', 1]])
  merge()
  await run('second', [['web', 2]])
  await run('third', [['db', 1]])
  expect(github.pulls.filter(({ state }) => state === 'open')).toHaveLength(1)
  expect(body()).toContain(
    '| `web` | `20261201.1`: 9001 on `a` | `20261201.2`: 9002 on `a` | built by an earlier run',
  )
  expect(body()).toContain('| `apt` | `2.1` | `2.2` |')
  expect(body()).toContain('| `db` | ')
  const files = github.git.filesAt(github.git.branches.get(BRANCH) ?? '')
  expect(Object.keys(JSON.parse(files[LOCK] ?? '').targets.home)).toEqual(['db', 'web'])
})

test('a run that built nothing leaves the open one as it is; once that is merged by hand it is closed', async () => {
  await run('first', [['web', 1]])
  const [text, written] = [body(), github.writes().length]
  expect(await run('second', [])).toMatchObject({ said: expect.stringContaining('unchanged') })
  expect([body(), github.writes().length]).toEqual([text, written])
  merge()
  expect(await run('third', [])).toEqual({
    problems: [],
    said: 'pull request https://github.test/acme/images/pull/1: closed',
  })
  expect(github.comments).toMatchObject([{ body: 'All of this is on main by now.' }])
  expect(await run('fourth', [])).toEqual({ problems: [] })
})

test('what failed is a status at the commit, with its check and the line of the definition', async () => {
  const failed: ImageOutcome = {
    ...built('db', 1),
    outcome: 'failed',
    failure: {
      ...{ what: 'db is not good', check: 'checks/port-1', exitCode: 1 },
      where: { file: 'images/db/image.yaml', line: 7, column: 3 },
    },
  }
  await run('first', [['web', 1]], [failed])
  expect(github.checkRuns).toMatchObject([
    {
      head_sha: github.git.branches.get(BRANCH),
      conclusion: 'failure',
      details_url: 'https://ci/7',
      output: {
        title: '1 rebuilt, 1 failed: db at check checks/port-1',
        annotations: [{ path: 'images/db/image.yaml', start_line: 7, annotation_level: 'failure' }],
      },
    },
  ])
  expect(body()).toContain('- `db`: db is not good')
})

test('a status that cannot be written is a problem, and the pull request is there all the same', async () => {
  const answer = { status: 422, body: { message: 'No commit found' } }
  github.faults.push({ method: 'POST', path: /check-runs$/, times: 1, answer })
  expect(await run('first', [['web', 1]])).toEqual({
    said: 'pull request https://github.test/acme/images/pull/1: created',
    pullRequest: 'https://github.test/acme/images/pull/1',
    problems: [expect.stringContaining('was not written in acme/images')],
  })
})

test('a failure is told without a secret, which the length of a row would have cut', async () => {
  const secrets = new SecretRegistry()
  secrets.add('hunter2-hunter2-hunter2')
  const at = await checkout('first')
  const before = await committedFiles(at)
  await write(at, 'web', 1)
  const failure = { what: `${'x'.repeat(960)} hunter2-hunter2-hunter2 ${'x'.repeat(99)}`, exitCode: 1 }
  const failed: ImageOutcome = { ...built('db', 1), outcome: 'failed', failure }
  await propose(await open(secrets), result(built('web', 1), failed), { at, before, carried: [] })
  expect(body()).toContain('x ••••••')
  expect(JSON.stringify(github.writes().map((asked) => asked.body))).not.toContain('hunter2')
})
