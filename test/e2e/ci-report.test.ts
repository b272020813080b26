import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { readLockfile } from '../../src/cli/lockfile.ts'
import { readNote } from '../../src/pve/templates.ts'
import { type CiWorld, ciWorld, NEW, OLD, SAME_KEYS } from './ci-world.ts'

/** Four runners with clones of their own, which share no folder, and a job that reports for all of them. */

const SINGLE = ['a', 'b', 'c', 'd', 'e', 'broken']
const ALL = [...SINGLE, 'base', 'child']
const LOCK = 'imagebuild.lock.json'

let world: CiWorld

beforeAll(async () => {
  world = await ciWorld({ templates: '6300-6349', claims: '6350-6369' })
  world.publish([OLD])
  for (const name of SINGLE) await world.project.write(world.definition(name, [OLD]))
  await world.project.write(world.definition('base', [OLD], { more: 'template: { archive: true }\n' }))
  await world.project.write(world.definition('child', [], { from: 'source: { image: base }' }))
})
afterAll(async () => {
  await world?.[Symbol.asyncDispose]()
})

test('four runners, eight images, a child among them and one that fails: one pull request, right in every row', async () => {
  const first = await world.ci(['run', '--json', '--parallel', '4'])
  expect(first.exitCode, first.stderr).toBe(0)
  world.merge()
  world.publish([NEW])
  await world.project.write(world.definition('broken', [OLD], { layers: SAME_KEYS }))
  const { include } = JSON.parse((await world.ci(['plan', '--matrix'])).stdout) as {
    include: { family: string; images: string }[]
  }
  expect(include.map(({ images }) => images).sort()).toEqual([
    'a',
    'b',
    'base child',
    'broken',
    'c',
    'd',
    'e',
  ])
  world.toldSince()

  const [pulls, writes] = [world.github.pulls.length, world.github.writes().length]
  const results = join(world.project.root, 'results')
  const jobs = [0, 1, 2, 3].map((job) => include.filter((_, index) => index % 4 === job))
  const ran = await Promise.all(
    jobs.map(async (families, job) => {
      const clone = await world.clone()
      const images = families.flatMap((family) => family.images.split(' '))
      const file = join(results, `${job}.json`)
      return await world.ci(['run', ...images, '--result', file], clone)
    }),
  )
  expect(ran.map(({ exitCode }) => exitCode).sort(), ran.map(({ stderr }) => stderr).join('\n')).toEqual([
    0, 0, 0, 1,
  ])
  // They tell nobody: that is for the job that reports.
  expect(world.toldSince()).toEqual([])
  expect(world.github.writes()).toHaveLength(writes)

  const checkout = await world.clone()
  const { exitCode, stderr, result } = await world.ci(['report', '--results', results, '--json'], checkout)
  expect(exitCode, stderr).toBe(1)
  const { images } = result()
  expect(images.map(({ image }) => image).sort()).toEqual([...ALL].sort())
  expect(world.github.pulls).toHaveLength(pulls + 1)
  const pull = world.github.pulls.at(-1)
  expect(pull).toMatchObject({ state: 'open', title: 'Rebuild 7 images on lab' })
  const locked = (await readLockfile(checkout)).targets.lab ?? {}
  for (const { image, outcome, before, after, changes } of images) {
    if (image === 'broken') {
      expect(outcome).toBe('failed')
      expect(pull?.body).toMatch(/^- `broken`: .*checks failed/m)
      expect(locked[image]?.version).toBe(before?.version)
      continue
    }
    expect([image, outcome]).toEqual([image, 'built'])
    expect(changes).toMatchObject([{ name: 'openssl', before: OLD.version, after: NEW.version }])
    const [vmid] = Object.values(after?.vmids ?? {})
    expect(locked[image]).toMatchObject({ version: after?.version, templates: { lab: vmid } })
    const row = `| \`${image}\` | \`${before?.version}\`: ${before?.vmids.lab} on \`lab\` | \`${after?.version}\`: ${vmid} on \`lab\` |`
    expect(pull?.body).toContain(row)
  }
  // The child was built in the same job after its parent, upon the version that this has now.
  const [base, child] = ['base', 'child'].map((name) => images.find(({ image }) => image === name)?.after)
  const at = { kind: 'lxc', node: 'lab', vmid: child?.vmids.lab ?? 0 } as const
  expect((await readNote(world.pve, at))?.source?.version).toBe(base?.version)
  const branch = world.github.git.filesAt(world.github.git.branches.get('imagebuild/rebuild-lab') ?? '')
  expect(branch[LOCK]).toBe(await readFile(join(checkout, LOCK), 'utf8'))
  for (const image of ALL)
    expect(branch[`imagebuild.packages/lab/${image}.txt`]).toContain(
      `openssl ${(image === 'broken' ? OLD : NEW).version} amd64`,
    )
  expect(world.toldSince().filter((one) => !one.startsWith('/ping'))).toEqual([
    'imagebuild campaign (lab): 1 failed, 7 rebuilt',
  ])
})

test('a result that is broken is named, and the others are reported all the same', async () => {
  const results = join(world.project.root, 'results')
  await writeFile(join(results, 'cut.json'), '{"schema": 1')
  const { exitCode, stdout, stderr } = await world.ci(['report', '--results', results], await world.clone())
  expect(exitCode).toBe(1)
  expect(stderr).toContain(`problem: the result ${join(results, 'cut.json')} cannot be read`)
  expect(stdout).toMatch(/^child +built/m)
  expect(stderr).toContain('unchanged')
})
