import { readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type CiWorld, ciWorld, NEW, OLD, SAME_KEYS } from './ci-world.ts'

/** A schedule's life with two images: built, left alone, mended, failing, paused, awake again. */

const OTHER = { name: 'zlib', version: '1.3-1' }
const LOCK = 'imagebuild.lock.json'
const BRANCH = 'imagebuild/rebuild-lab'

let world: CiWorld

beforeAll(async () => {
  world = await ciWorld({ templates: '6200-6249', claims: '6250-6259' })
  world.publish([OLD, OTHER])
  await world.project.write({ ...world.definition('web', [OLD]), ...world.definition('db', [OTHER]) })
})
afterAll(async () => {
  await world?.[Symbol.asyncDispose]()
})

const branch = () => world.github.git.filesAt(world.github.git.branches.get(BRANCH) ?? '')
const locked = () => readFile(join(world.project.root, LOCK), 'utf8')
/** Files that the branch has otherwise than main. */
const changed = () => {
  const main = world.github.git.filesAt(world.github.git.branches.get('main') ?? '')
  const files = branch()
  return Object.keys({ ...main, ...files }).filter((path) => main[path] !== files[path])
}

test('what is missing is built, proven, promoted, written down and proposed', async () => {
  const { exitCode, stderr, result } = await world.ci(['run', '--json'])
  expect(exitCode, stderr).toBe(0)
  expect(result().images).toMatchObject([
    { image: 'db', outcome: 'built', reasons: ['missing: there is no current template'] },
    { image: 'web', outcome: 'built' },
  ])
  expect(world.github.pulls).toMatchObject([{ state: 'open', title: 'Rebuild 2 images on lab' }])
  expect(changed().sort()).toEqual([
    LOCK,
    'imagebuild.packages/lab/db.txt',
    'imagebuild.packages/lab/web.txt',
  ])
  // An empty cache shall know of them, too.
  expect(Object.keys(JSON.parse(branch()[LOCK] ?? '').suites)).toEqual([
    expect.stringMatching(/^http:.* tiny-security$/),
  ])
  expect(world.toldSince()).toEqual([
    '/ping/start',
    expect.stringMatching(/^(\/ping|imagebuild campaign \(lab\): 2 rebuilt)$/),
    expect.stringMatching(/^(\/ping|imagebuild campaign \(lab\): 2 rebuilt)$/),
  ])
})

test('records of a change that nobody has merged are taken from its branch by an empty runner', async () => {
  const start = world.proxy.calls.length
  const clone = await world.clone()
  await rm(join(clone, LOCK))
  await rm(join(clone, 'imagebuild.packages'), { recursive: true })
  const before = world.github.writes().length
  const states = async (more: Record<string, string>) => {
    const { exitCode, stdout, stderr } = await world.ci(['plan', '--json'], clone, more)
    expect(exitCode, stderr).toBe(0)
    return (JSON.parse(stdout) as { images: { state: string }[] }).images.map(({ state }) => state)
  }
  expect(await states({})).toEqual(['unknown', 'unknown'])
  expect(await states({ CI: 'true' })).toEqual(['fresh', 'fresh'])
  await rm(join(clone, LOCK))
  await rm(join(clone, 'imagebuild.packages'), { recursive: true })
  const { exitCode, stderr, result } = await world.ci(['run', '--json'], clone)
  expect(exitCode, stderr).toBe(0)
  expect(result().images.map(({ outcome, reasons }) => [outcome, reasons])).toEqual([
    ['unchanged', []],
    ['unchanged', []],
  ])
  expect(world.writesSince(start)).toEqual([])
  expect(world.github.writes()).toHaveLength(before)
  world.toldSince()
})

test('with nothing stale no guest is started, nothing is written, no pull request is opened, and the switch is pinged', async () => {
  world.merge()
  const start = world.proxy.calls.length
  const [written, pulls, lock] = [world.github.writes().length, world.github.pulls.length, await locked()]
  const { exitCode, stderr, stdout } = await world.ci(['run'])
  expect(exitCode, stderr).toBe(0)
  expect(stdout).toMatch(/^db {3}unchanged {2}\d{8}\.1\nweb {2}unchanged {2}\d{8}\.1$/)
  expect(world.writesSince(start)).toEqual([])
  expect(world.github.writes()).toHaveLength(written)
  expect(world.github.pulls).toHaveLength(pulls)
  expect(await locked()).toBe(lock)
  expect(world.toldSince()).toEqual(['/ping/start', '/ping'])
})

test('an older package makes exactly its image stale, which is rebuilt into one pull request of lockfile and package list', async () => {
  world.publish([NEW, OTHER])
  const { exitCode, stderr, result } = await world.ci(['run', '--json'])
  expect(exitCode, stderr).toBe(0)
  const reason = 'security: openssl 3.5.0-1 → 3.5.1-1 (tiny-security)'
  expect(result().images).toMatchObject([
    { image: 'db', outcome: 'unchanged', reasons: [] },
    {
      image: 'web',
      outcome: 'built',
      reasons: [reason],
      changes: [{ name: 'openssl', before: '3.5.0-1', after: '3.5.1-1' }],
    },
  ])
  expect(stderr).toContain('upgrading all packages')
  const open = world.github.pulls.filter(({ state }) => state === 'open')
  expect(open).toMatchObject([{ title: expect.stringMatching(/^Rebuild web on lab: \d{8}\.2$/) }])
  expect(open[0]?.body).toContain('imagebuild rollback web --target lab')
  expect(changed()).toEqual([LOCK, 'imagebuild.packages/lab/web.txt'])
  expect(branch()['imagebuild.packages/lab/web.txt']).toContain('openssl 3.5.1-1 amd64')
  expect(world.github.checkRuns.at(-1)).toMatchObject({ conclusion: 'success' })
  expect(world.toldSince()).toContain('imagebuild campaign (lab): 1 rebuilt')
})

test('the next run changes nothing', async () => {
  const [start, written] = [world.proxy.calls.length, world.github.writes().length]
  const body = world.github.pulls.at(-1)?.body
  const { exitCode, stderr } = await world.ci(['run'])
  expect(exitCode, stderr).toBe(0)
  expect(world.writesSince(start)).toEqual([])
  expect(world.github.writes()).toHaveLength(written)
  expect(world.github.pulls.at(-1)?.body).toBe(body)
  expect(world.toldSince()).toEqual(['/ping/start', '/ping'])
})

test('what a rebuild cannot bring in is tried once, and is no reason again until the index changes', async () => {
  const publish = (version: string) => world.publish([{ ...NEW, version }, OTHER])
  const rebuilt = async () => {
    const { exitCode, stderr, result } = await world.ci(['run', '--json'])
    expect(exitCode, stderr).toBe(0)
    return result()
      .images.filter(({ outcome }) => outcome === 'built')
      .map(({ image }) => image)
  }
  publish('3.5.2-1')
  expect(await rebuilt()).toEqual(['web'])
  expect(await rebuilt()).toEqual([])
  publish('3.5.3-1')
  expect(await rebuilt()).toEqual(['web'])
  world.publish([NEW, OTHER])
  world.toldSince()
})

test('two at once build once, and end in one pull request', async () => {
  await world.project.write(world.definition('db', [OTHER], { layers: '  - shell: echo one > /etc/one\n' }))
  const both = await Promise.all([1, 2].map(() => world.ci(['run', '--json', '--wait'])))
  expect(
    both.map(({ exitCode }) => exitCode),
    both.map(({ stderr }) => stderr).join('\n'),
  ).toEqual([0, 0])
  const outcomes = both.map(({ result }) =>
    result().images.map(({ image, outcome }) => `${image} ${outcome}`),
  )
  expect(outcomes.flat().sort()).toEqual(['db built', 'db unchanged', 'web unchanged', 'web unchanged'])
  const open = world.github.pulls.filter(({ state }) => state === 'open')
  expect(open).toHaveLength(1)
  expect(open[0]?.body).toContain('| `db` | ')
  world.toldSince()
})

test('an index that is not believed builds nothing, and is said', async () => {
  world.publish([{ ...NEW, version: '3.5.2-1' }], { validUntil: 'Sun, 29 Nov 2026 00:00:00 UTC' })
  const start = world.proxy.calls.length
  const { exitCode, stderr } = await world.ci(['run'])
  expect(exitCode).toBe(1)
  expect(stderr).toContain('has expired')
  expect(world.writesSince(start)).toEqual([])
  world.publish([NEW, OTHER])
  world.toldSince()
})

test('what is not verified is not made current: the lockfile stays, status and message name the check; then it pauses', async () => {
  world.merge()
  await world.project.write(world.definition('web', [NEW], { layers: SAME_KEYS }))
  const lock = await locked()
  for (const time of [1, 2, 3]) {
    const { exitCode, stderr, result } = await world.ci(['run', '--json'])
    expect(exitCode, stderr).toBe(1)
    const [, web] = result().images
    expect(web).toMatchObject({
      image: 'web',
      outcome: 'failed',
      failure: { check: expect.stringMatching(/^identity\//) },
    })
    expect(await locked()).toBe(lock)
    expect(world.github.checkRuns.at(-1)).toMatchObject({
      conclusion: 'failure',
      output: { title: expect.stringContaining('1 failed: web at check identity/') },
    })
    const messages = world.toldSince().filter((one) => !one.startsWith('/ping'))
    expect([time, messages]).toEqual([time, ['imagebuild campaign (lab): 1 failed']])
  }
  expect(world.github.checkRuns.at(-1)?.output.annotations).toMatchObject([
    { path: 'images/web/image.yaml', annotation_level: 'failure' },
  ])
  const start = world.proxy.calls.length
  const fourth = await world.ci(['run', '--json'])
  expect(fourth.exitCode, fourth.stderr).toBe(0)
  expect(fourth.result().images[1]).toMatchObject({ image: 'web', outcome: 'paused' })
  expect(world.writesSince(start)).toEqual([])
  const resumed = await world.ci(['resume', 'web'])
  expect(resumed.stdout).toContain('web is worked on again')
  const { result } = await world.ci(['plan', '--json'])
  expect(result().images[1]).toMatchObject({ image: 'web', state: 'stale' })
  world.toldSince()
})

test('a dry run says what would be built and sent, and does none of it', async () => {
  const [start, written] = [world.proxy.calls.length, world.github.requests.length]
  const { exitCode, stdout, stderr } = await world.ci(['run', '--dry-run'])
  expect(exitCode, stderr).toBe(0)
  expect(stdout).toContain(
    `would write the branch ${BRANCH}, upon main, with\n  ${LOCK}\n  imagebuild.packages/lab/web.txt`,
  )
  expect(stdout).toContain('would send a message by webhook, on change, failure')
  expect(world.writesSince(start)).toEqual([])
  expect(world.github.requests).toHaveLength(written)
  expect(world.toldSince()).toEqual([])
})

test('--verify off is refused', async () => {
  expect((await world.ci(['run', '--verify', 'off'])).exitCode).toBe(64)
})
