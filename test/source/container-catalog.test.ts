import { createHash } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import {
  containerReleaseIds,
  isContainerReleaseId,
  resolveContainerRelease,
} from '../../src/source/container-catalog.ts'
import type { SourceContext } from '../../src/source/context.ts'
import { fetchFile } from '../../src/source/fetch.ts'
import { type Answer, rangedFile, serveFiles } from './file-server.ts'

let cacheDir: string
beforeAll(async () => {
  cacheDir = await mkdtemp(join(tmpdir(), 'imagebuild-containers-'))
})
afterAll(() => rm(cacheDir, { recursive: true, force: true }))

const INDEX = '/streams/v1/images.json'
const rootfs = Buffer.from('a root file system, packed with xz')
const digest = createHash('sha256').update(rootfs).digest('hex')
const folder = 'images/debian/bookworm/amd64/cloud'

/** An item as the index lists it. */
const item = (version: string, change: object = {}) => ({
  ftype: 'root.tar.xz',
  sha256: digest,
  size: rootfs.length,
  path: `${folder}/${version}/rootfs.tar.xz`,
  ...change,
})
const other = { ftype: 'squashfs', sha256: 'ab'.repeat(32), size: 7, path: 'images/x/rootfs.squashfs' }

/** An index with one product; each version with its items. */
const index = (versions: Record<string, object>, product = 'debian:bookworm:amd64:cloud') =>
  JSON.stringify({
    content_id: 'images',
    datatype: 'image-downloads',
    format: 'products:1.0',
    products: {
      'debian:bookworm:amd64:default': { variant: 'default', versions: {} },
      [product]: {
        os: 'Debian',
        variant: 'cloud',
        versions: Object.fromEntries(
          Object.entries(versions).map(([version, items]) => [version, { items }]),
        ),
      },
    },
  })

async function withServer<T>(
  answers: Record<string, Answer | string | Buffer>,
  work: (ctx: SourceContext, url: string) => Promise<T>,
): Promise<T> {
  await using server = await serveFiles(answers)
  const signal = new AbortController().signal
  return await work({ cacheDir, signal, baseUrls: { linuxcontainers: server.url } }, server.url)
}

test('the names', () => {
  expect(containerReleaseIds()).toEqual([
    ...['debian/12', 'debian/13', 'ubuntu/22.04', 'ubuntu/24.04', 'ubuntu/26.04'],
  ])
  expect(isContainerReleaseId('debian/12')).toBe(true)
  expect(isContainerReleaseId('ubuntu/24.04-minimal')).toBe(false)
  expect(isContainerReleaseId('toString')).toBe(false)
})

describe('a release', () => {
  const newest = '20251120_05:24'
  const listed = index({
    [newest]: { 'root.tar.xz': item(newest), 'root.squashfs': other },
    '20251118_05:24': { 'root.tar.xz': item('20251118_05:24', { sha256: '00'.repeat(32) }) },
    // What was built in part only.
    '20251121_05:24': { 'root.squashfs': other },
  })

  test('is the newest build that has an archive', () =>
    withServer({ [INDEX]: listed }, async (ctx, url) => {
      expect(await resolveContainerRelease('debian/12', 'amd64', ctx)).toEqual({
        url: `${url}/${folder}/${newest}/rootfs.tar.xz`,
        checksum: { algorithm: 'sha256', value: digest },
        version: newest,
        format: 'tar.xz',
        size: rootfs.length,
        identity: `sha256:${digest}`,
      })
    }))

  test('is fetched, checked, and stays packed', () =>
    withServer(
      { [INDEX]: listed, [`/${folder}/${newest}/rootfs.tar.xz`]: rangedFile(rootfs) },
      async (ctx) => {
        const file = await fetchFile(await resolveContainerRelease('debian/12', 'amd64', ctx), ctx)
        expect(file.path).toBe(join(cacheDir, 'files', `sha256-${digest}.tar.xz`))
      },
    ))

  test('that is not what the index says is refused', () =>
    withServer(
      {
        [INDEX]: index({ [newest]: { 'root.tar.xz': item(newest, { sha256: 'ee'.repeat(32) }) } }),
        [`/${folder}/${newest}/rootfs.tar.xz`]: rangedFile(rootfs),
      },
      async (ctx) => {
        const file = await resolveContainerRelease('debian/12', 'amd64', ctx)
        await expect(fetchFile(file, ctx)).rejects.toMatchObject({
          code: 'build_failed',
          why: expect.stringContaining(digest),
        })
      },
    ))

  test.each([
    ['ubuntu/24.04', 'amd64', 'ubuntu:noble:amd64:cloud'],
    ['ubuntu/26.04', 'arm64', 'ubuntu:resolute:arm64:cloud'],
    ['debian/13', 'arm64', 'debian:trixie:arm64:cloud'],
  ] as const)('%s for %s is %s', (id, arch, product) =>
    withServer({ [INDEX]: index({ '1': { 'root.tar.xz': item('1') } }, product) }, async (ctx) => {
      expect((await resolveContainerRelease(id, arch, ctx)).version).toBe('1')
    }),
  )

  test.each<[string, Record<string, string>, object]>([
    ['no index', {}, { code: 'unreachable', why: expect.stringContaining('404') }],
    [
      'another distribution alone',
      { [INDEX]: index({}, 'ubuntu:noble:amd64:cloud') },
      {
        code: 'unreachable',
        what: 'no root file system of debian/12 was found',
        why: expect.stringMatching(/does not list debian:bookworm:amd64:cloud$/),
      },
    ],
    [
      'no archive in any build',
      { [INDEX]: index({ '1': { 'root.squashfs': other } }) },
      { code: 'unreachable', why: expect.stringMatching(/without any root.tar.xz$/) },
    ],
    [
      'a page of a proxy',
      { [INDEX]: '<html>' },
      { code: 'build_failed', next: expect.stringMatching('proxy') },
    ],
    [
      'an index without products',
      { [INDEX]: '{}' },
      { code: 'build_failed', why: expect.stringMatching(/products/) },
    ],
    [
      'an archive without a checksum',
      { [INDEX]: index({ '1': { 'root.tar.xz': { ...item('1'), sha256: undefined } } }) },
      { code: 'build_failed', why: expect.stringMatching(/version 1: sha256/) },
    ],
    [
      'an archive elsewhere',
      { [INDEX]: index({ '1': { 'root.tar.xz': item('1', { path: 'https://elsewhere.example/x' }) } }) },
      { code: 'build_failed', why: expect.stringMatching('leads away') },
    ],
  ])('%s', (_, answers, error) =>
    withServer(answers, async (ctx) => {
      await expect(resolveContainerRelease('debian/12', 'amd64', ctx)).rejects.toMatchObject(error)
    }),
  )
})
