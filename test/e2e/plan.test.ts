import { readdir, rename } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { BOOTSTRAP, makeProject, type Project, parseEvents } from './harness.ts'

/** A parent and two children: built at once, planned before and after, as real containers. */

const child = (name: string, script = `echo ${name} > /etc/member`) =>
  `name: ${name}\nkind: lxc\nsource: { image: family-base }\nprovision:\n  - shell: ${script}\n`
const base = (word: string) =>
  `name: family-base\nkind: lxc\n${BOOTSTRAP}\nprovision:\n  - shell: |\n      # what the family has in common\n      echo ${word} > /etc/family\ntemplate: { archive: true }\n`

let project: Project
beforeAll(async () => {
  project = await makeProject({
    'images/family-base/image.yaml': base('one'),
    'images/family-a/image.yaml': child('family-a'),
    'images/family-b/image.yaml': child('family-b'),
  })
})
afterAll(() => project?.[Symbol.asyncDispose]())

interface Planned {
  changes: number
  images: { image: string; action: string; reasons: { kind: string; text: string; diff?: string }[] }[]
}

async function plan(...args: string[]): Promise<Planned & { exitCode: number | undefined }> {
  const { stdout, exitCode } = await project.imagebuild(['plan', '--json', '--detailed-exitcode', ...args])
  return { ...(JSON.parse(stdout) as Planned), exitCode }
}

const actions = ({ images }: Planned) =>
  Object.fromEntries(images.map(({ image, action }) => [image, action]))

test('a family is built as planned, its children at once, and then there is nothing to do', async () => {
  const before = await plan()
  expect(actions(before)).toEqual({ 'family-base': 'build', 'family-a': 'build', 'family-b': 'build' })
  expect([before.exitCode, before.changes]).toEqual([2, 3])

  const { stdout, exitCode } = await project.imagebuild(['run', '--json', '--parallel', '2', 'family-*'])
  expect(exitCode).toBe(0)
  const events = parseEvents(stdout)
  const at = (type: string, image: string) =>
    events.findIndex((event) => event.type === type && 'image' in event && event.image === image)
  const [begunA, begunB] = [at('image.start', 'family-a'), at('image.start', 'family-b')]
  expect(Math.min(begunA, begunB)).toBeGreaterThan(at('image.end', 'family-base'))
  expect(Math.max(begunA, begunB)).toBeLessThan(
    Math.min(at('image.end', 'family-a'), at('image.end', 'family-b')),
  )

  const after = await plan()
  expect(after.images.map(({ action, reasons }) => [action, ...reasons])).toEqual([
    ['nothing'],
    ['nothing'],
    ['nothing'],
  ])
  expect([after.exitCode, after.changes]).toEqual([0, 0])
})

test('a changed line is shown, and who is built after it; where the record is elsewhere, the layer is still named', async () => {
  await project.write({ 'images/family-base/image.yaml': base('two') })
  const { images, exitCode } = await plan()
  expect(exitCode).toBe(2)
  const [parent, a] = images
  expect(parent).toMatchObject({
    action: 'rebuild',
    reasons: [
      {
        kind: 'definition',
        text: expect.stringMatching(/^layer 1\/\d+ changed: shell: /),
        diff: expect.stringContaining('-echo one > /etc/family\n+echo two > /etc/family'),
      },
    ],
  })
  expect(a).toMatchObject({
    action: 'rebuild',
    reasons: [{ kind: 'parent', text: 'its parent family-base is built anew first' }],
  })
  // `run family-a` alone would take the parent as it is.
  expect((await plan('family-a')).images).toMatchObject([
    { action: 'nothing', reasons: [{ text: expect.stringContaining('family-base is out of date') }] },
  ])

  const builds = join(project.root, '.imagebuild/builds')
  expect(await readdir(join(builds, 'lab'))).toContain('family-base')
  await rename(builds, `${builds}-away`)
  const elsewhere = await plan('family-base')
  expect(elsewhere.images[0]?.reasons.map(({ text }) => text)).toEqual([
    expect.stringMatching(/^layer 1\/\d+ is new or changed: shell: /),
    expect.stringMatching(/plan\.json, sha256 [0-9a-f]{64}$/),
  ])
})
