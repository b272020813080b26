import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import {
  type CiResult,
  type ImageOutcome,
  mergeResults,
  readResult,
  writeResult,
} from '../../src/cli/ci-result.ts'

let folder: string
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'imagebuild-results-'))
})
afterEach(() => rm(folder, { recursive: true }))

const outcome = (image: string, more: Partial<ImageOutcome> = {}): ImageOutcome => ({
  ...{ image, outcome: 'built', reasons: ['age: old'], packages: [], changes: [], seconds: 3 },
  after: { version: '20261201.1', vmids: { a: 9000 } },
  ...more,
})
const result = (images: ImageOutcome[], more: Partial<CiResult> = {}): CiResult => ({
  ...{ schema: 1, namespace: 'homelab', target: 'home', images, suites: {}, problems: [] },
  ...{ started: '2026-12-01T02:00:00.000Z', ended: '2026-12-01T02:10:00.000Z' },
  ...more,
})

describe('a result', () => {
  test('is read as it was written, whole or not at all', async () => {
    const file = join(folder, 'new/web.json')
    await writeResult(file, result([outcome('web')]))
    expect(await readResult(file)).toEqual(result([outcome('web')]))
    expect(await readdir(join(folder, 'new'))).toEqual(['web.json'])
  })

  test.each([
    ['an image', { images: [outcome('../../etc')] }],
    ['a target', { target: '../x' }],
    ['a node', { images: [outcome('web', { packages: [{ node: '../x', text: '' }] })] }],
    [
      'a node of a template',
      { images: [outcome('web', { after: { version: '1', vmids: { 'a/b': 9000 } } })] },
    ],
    ['a schema', { schema: 2 as 1 }],
  ])('with no name of %s is refused before it becomes a path', async (_, wrong) => {
    const file = join(folder, 'bad.json')
    await writeFile(file, JSON.stringify({ ...result([]), ...wrong }))
    await expect(readResult(file)).rejects.toMatchObject({ code: 'definition_invalid' })
  })

  test('that is cut off is named', async () => {
    const file = join(folder, 'cut.json')
    await writeFile(file, JSON.stringify(result([])).slice(0, 40))
    await expect(readResult(file)).rejects.toMatchObject({ what: `the result ${file} cannot be read` })
  })
})

describe('several results', () => {
  test('are one: images, problems, first begin, last end, newest date of each suite', () => {
    const one = result([outcome('web')], {
      suites: { s: '2026-11-01T00:00:00.000Z', t: '2026-11-02T00:00:00.000Z' },
    })
    const other = result([outcome('db')], {
      ...{ started: '2026-12-01T01:00:00.000Z', ended: '2026-12-01T02:05:00.000Z', problems: ['a mirror'] },
      suites: { s: '2026-11-03T00:00:00.000Z' },
    })
    expect(
      mergeResults(
        new Map([
          ['1', one],
          ['2', other],
        ]),
      ),
    ).toEqual({
      ...one,
      images: [outcome('web'), outcome('db')],
      started: '2026-12-01T01:00:00.000Z',
      suites: { s: '2026-11-03T00:00:00.000Z', t: '2026-11-02T00:00:00.000Z' },
      problems: ['a mirror'],
    })
  })

  test('that contradict each other are named, and leave out that image alone', () => {
    const other = outcome('web', { after: { version: '20261201.2', vmids: { a: 9001 } } })
    const merged = mergeResults(
      new Map([
        ['1', result([outcome('web'), outcome('db')])],
        ['2', result([other])],
      ]),
    )
    expect(merged.images).toEqual([outcome('db')])
    expect(merged.problems).toEqual(['1 and 2 say different things of web: it is left out'])
    const same = mergeResults(
      new Map([
        ['1', result([outcome('web')])],
        ['2', result([outcome('web')])],
      ]),
    )
    expect(same).toMatchObject({ images: [outcome('web')], problems: [] })
  })

  test('of another target are named, and left out', () => {
    const merged = mergeResults(
      new Map([
        ['1', result([outcome('web')])],
        ['2', result([outcome('db')], { target: 'work' })],
      ]),
    )
    expect(merged.images).toEqual([outcome('web')])
    expect(merged.problems).toEqual(['2 is of homelab on work, and 1 of homelab on home: it is left out'])
  })

  test('of which there is none are no result', () => {
    expect(() => mergeResults(new Map())).toThrow('there is no result to report')
  })
})
