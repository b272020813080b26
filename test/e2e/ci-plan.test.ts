import { rename } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { ImageState } from '../../src/plan/staleness.ts'
import type { Pve } from '../../src/pve/client.ts'
import { destroyGuest } from '../../src/pve/destroy.ts'
import { nodeGuests } from '../../src/pve/guest-ref.ts'
import { startProxy } from '../campaign/proxy.ts'
import { startedLab, type TinyProject, tinyProject } from '../campaign/tiny-project.ts'
import { type Answer, serveFiles } from '../source/file-server.ts'
import { type ArchiveFacts, archiveFiles, SigningKey, withEtag } from '../updates/signed-archive.ts'
import { labClient } from './harness.ts'
import { packagesFile, type TinyPackage, tinyLayers, tinyUpdates } from './tiny-distribution.ts'

/**
 * Real builds of a parent, its child and another image; then each reason once, in the words of the command line. What it
 * asks goes through a proxy that counts.
 */

const RANGES = { templates: '6100-6149', claims: '6150-6159' }
const OLD: readonly TinyPackage[] = [{ name: 'openssl', version: '3.5.0-1' }]
const NEW: readonly TinyPackage[] = [{ name: 'openssl', version: '3.5.1-1' }]

let key: SigningKey
let pve: Pve
let proxy: Awaited<ReturnType<typeof startProxy>>
let tiny: TinyProject
const answers: Record<string, Answer> = {}
let archive: Awaited<ReturnType<typeof serveFiles>>

/** What the archive has from now on. */
function publish(packages: readonly TinyPackage[], facts: ArchiveFacts = {}, signer = key): void {
  const lists = { 'main/binary-amd64': packagesFile(packages) }
  const files = archiveFiles(signer, { suite: 'tiny-security', lists, ...facts })
  for (const [path, data] of Object.entries(files)) answers[path] = withEtag(data)
}

const definition = (name: string, source: string, more = '') => ({
  [`images/${name}/image.yaml`]: `name: ${name}
kind: lxc
${source}
hardware: { rootfs: 64M, memory: 64 }
hardening: none
build: { bootTimeout: 60s }
${tinyUpdates(archive.url)}${more}`,
  [`images/${name}/key.asc`]: key.armored(),
})

const base = (more = '', layers = '') =>
  definition(
    'base',
    tiny.source,
    `provision:\n${tinyLayers(archive.url, OLD)}${layers}template: { archive: true }\n${more}`,
  )
const web = (more = '') =>
  definition('web', tiny.source, `provision:\n${tinyLayers(archive.url, OLD)}${more}`)
const child = () => definition('child', 'source: { image: base }')

beforeAll(async () => {
  key = new SigningKey()
  archive = await serveFiles(answers)
  publish(OLD)
  const lab = await startedLab()
  proxy = await startProxy({ upstream: lab })
  tiny = await tinyProject(lab, RANGES, proxy)
  pve = await labClient()
  await tiny.project.write({ ...base(), ...child(), ...web() })
})

afterAll(async () => {
  const signal = AbortSignal.timeout(120_000)
  for (const { kind, vmid } of await nodeGuests(pve, 'lab')) {
    if (vmid >= 6100 && vmid < 6160) await destroyGuest(pve, { kind, node: 'lab', vmid, signal })
  }
  await pve[Symbol.asyncDispose]()
  await tiny[Symbol.asyncDispose]()
  await proxy[Symbol.asyncDispose]()
  await archive[Symbol.asyncDispose]()
  key[Symbol.dispose]()
})

/** Changes of the cluster that were asked for since; a login is none. */
const writesSince = (start: number) =>
  proxy.calls
    .slice(start)
    .filter(({ method, path }) => method !== 'GET' && path !== '/access/ticket')
    .map(({ method, path }) => `${method} ${path}`)

interface Told {
  images: ImageState[]
  families: { family: string; images: string[] }[]
  suites: Record<string, string>
}

async function ciPlan(...args: string[]) {
  const start = proxy.calls.length
  const { stdout, stderr, exitCode } = await tiny.project.imagebuild(
    ['ci', 'plan', '--detailed-exitcode', ...args],
    { env: tiny.env },
  )
  expect(writesSince(start)).toEqual([])
  return { stdout, stderr, exitCode }
}

async function states(...args: string[]) {
  const { stdout, stderr, exitCode } = await ciPlan('--json', ...args)
  const told = JSON.parse(stdout) as Told
  const of = (name: string) => {
    const found = told.images.find(({ image }) => image === name)
    return [
      `${found?.state}: ${found?.action}`,
      ...(found?.reasons ?? []).map(({ kind, text }) => `${kind}: ${text}`),
    ]
  }
  return { ...told, of, stderr, exitCode }
}

async function build(...args: string[]): Promise<void> {
  const start = proxy.calls.length
  const { exitCode, stderr } = await tiny.project.imagebuild(['run', ...args], { env: tiny.env })
  expect(exitCode, stderr).toBe(0)
  expect(writesSince(start)).not.toEqual([])
}

test('what was never built is missing; a family is one job', async () => {
  const { of, exitCode, families } = await states()
  expect(of('base')).toEqual(['stale: build', 'missing: there is no current template'])
  expect(of('child')).toEqual(['stale: build', 'missing: there is no current template'])
  expect(exitCode).toBe(2)
  expect(families).toEqual([
    { family: 'base', images: ['base', 'child'] },
    { family: 'web', images: ['web'] },
  ])
  const { stdout } = await ciPlan('--matrix')
  expect(stdout).toBe('{"include":[{"family":"base","images":"base child"},{"family":"web","images":"web"}]}')
})

test('what cannot be told is said, and is a job whose failure is told as a build’s', async () => {
  const { of, stderr, exitCode } = await states('child')
  expect(of('child')).toEqual([
    'unknown: nothing',
    expect.stringMatching(/^unknown: child starts from base, and there is no current template of it on lab/),
  ])
  expect(exitCode).toBe(1)
  expect(stderr).toBe('')
  const said = await ciPlan('child')
  expect(said.stdout).toMatch(/^child {2}unknown {2}cannot be told\n {4}unknown {5}child starts from base/)
  expect(said.stderr).toContain('imagebuild run base')
  expect((await ciPlan('child', '--matrix')).stdout).toBe('{"include":[{"family":"child","images":"child"}]}')
})

test('what nobody has verified is to be verified; then nothing is stale, nothing is asked for, and the exit code is 0', async () => {
  await build('base', 'child', 'web', '--verify', 'off')
  expect((await states()).of('web')).toEqual([
    'stale: verify',
    'verify: nobody has looked at clones of it yet',
  ])
  await build('base', 'child', 'web', '--verify', 'full')
  const { stdout, exitCode } = await ciPlan()
  expect(stdout).toMatch(/^base {3}fresh {4}\d{8}\.1\nchild {2}fresh {4}\d{8}\.1\nweb {4}fresh {4}\d{8}\.1$/)
  expect(exitCode).toBe(0)
  expect((await ciPlan('--matrix')).stdout).toBe('{"include":[]}')
})

test('in a fresh clone the committed records do', async () => {
  const builds = join(tiny.project.root, '.imagebuild/builds')
  await rename(builds, `${builds}-away`)
  try {
    expect((await states()).of('web')).toEqual(['fresh: nothing'])
  } finally {
    await rename(`${builds}-away`, builds)
  }
})

test('a definition that changed: the layer, and its child after it', async () => {
  await tiny.project.write(base('', '  - shell: echo one > /etc/one\n'))
  const { of, images } = await states()
  expect(of('base')).toEqual([
    'stale: build',
    expect.stringMatching(/^definition: layer 5\/\d+ is new: shell: /),
  ])
  expect(images[0]?.reasons[0]?.where).toMatchObject({ file: 'images/base/image.yaml' })
  expect(of('child')).toEqual(['stale: build', 'parent: its parent base is built anew first'])
  expect(of('web')).toEqual(['fresh: nothing'])
  await tiny.project.write(base())
})

test('a security update: package, both versions and suite, for exactly the images that have it', async () => {
  publish(NEW, { date: 'Sat, 28 Nov 2026  9:09:32 UTC' })
  await tiny.project.write({ 'images/web/image.yaml': web()['images/web/image.yaml'] ?? '' })
  const { of, suites, exitCode } = await states()
  const reason = 'security: openssl 3.5.0-1 → 3.5.1-1 (tiny-security)'
  expect(of('base')).toEqual(['stale: refresh', reason])
  expect(of('child')).toEqual(['stale: refresh', 'parent: its parent base is built anew first', reason])
  expect(of('web')).toEqual(['stale: refresh', reason])
  expect(suites).toEqual({ [`${archive.url}/debian tiny-security`]: '2026-11-28T09:09:32.000Z' })
  expect(exitCode).toBe(2)
  const { stdout, stderr } = await ciPlan('web')
  expect(stdout).toMatch(
    /^web {2}stale {4}to be built, with all packages upgraded\n {4}security {4}openssl 3\.5/,
  )
  expect(stderr).toMatch(/imagebuild ci run web$/)
})

test('an index with another signature, an expired one and a replayed one are refused, and said', async () => {
  using stranger = new SigningKey()
  const refused = async (message: string) => {
    const { of, stderr, exitCode } = await states('web')
    expect(of('web')).toEqual([
      'unknown: nothing',
      expect.stringContaining(`unknown: updates of tiny-security: `),
    ])
    expect(of('web')[1]).toContain(message)
    expect(stderr).toContain(message)
    expect(exitCode).toBe(2)
  }
  publish(NEW, { date: 'Sat, 28 Nov 2026  9:09:33 UTC' }, stranger)
  await refused('was made with another key')
  publish(NEW, { date: 'Sat, 28 Nov 2026  9:09:33 UTC', validUntil: 'Sun, 29 Nov 2026 00:00:00 UTC' })
  await refused('has expired')
  publish(OLD)
  await refused('is older than the last one seen')
  publish(OLD, { date: 'Sat, 28 Nov 2026  9:09:34 UTC' })
  expect((await states('web')).of('web')).toEqual(['fresh: nothing'])
})

test('what is older than it may be', async () => {
  await tiny.project.write(web('template: { maxAge: 1s }\n'))
  expect((await states('web')).of('web')).toEqual([
    'stale: refresh',
    expect.stringMatching(/^age: built \d+ \w+ ago, .*\(template\.maxAge: 1 second\)$/),
  ])
  await tiny.project.write(web())
})

test('checks alone that changed are asked, and nothing is built', async () => {
  await tiny.project.write(web('checks: [{ file: /etc/os-release }]\n'))
  const { of } = await states('web')
  expect(of('web')[0]).toBe('stale: verify')
  await tiny.project.write(web())
})

test('a parent that was built anew since: its child is stale, although the digest is the same', async () => {
  await build('base', '--force', '--verify', 'full')
  const { of } = await states()
  expect(of('base')).toEqual(['fresh: nothing'])
  expect(of('child')).toEqual([
    'stale: refresh',
    expect.stringMatching(/^parent: its parent base is another one by now: \d{8}\.1 → \d{8}\.2$/),
  ])
})

test('held after a rollback: its reasons are listed, and it is no job', async () => {
  const { exitCode, stderr } = await tiny.project.imagebuild(['rollback', 'base'], { env: tiny.env })
  expect(exitCode, stderr).toBe(0)
  publish(NEW, { date: 'Sat, 28 Nov 2026  9:09:35 UTC' })
  const { of } = await states('base')
  expect(of('base')).toEqual(['held: nothing', 'security: openssl 3.5.0-1 → 3.5.1-1 (tiny-security)'])
  expect((await ciPlan('base', '--matrix')).stdout).toBe('{"include":[]}')
  expect((await ciPlan('base')).stdout).toContain('imagebuild run base --force` ends that')
})

test('a record that is not here, or was changed: unknown, and nothing is built', async () => {
  publish(OLD, { date: 'Sat, 28 Nov 2026  9:09:36 UTC' })
  const { root } = tiny.project
  await rename(join(root, '.imagebuild/builds'), join(root, '.imagebuild/builds-away'))
  await tiny.project.write({ 'imagebuild.packages/lab/web.txt': '# schema: 1\n\n' })
  const { of, exitCode } = await states('web')
  expect(of('web')).toEqual([
    'unknown: nothing',
    expect.stringMatching(/^unknown: the record of the packages in .* is not here, or is another one/),
  ])
  expect(exitCode).toBe(2)
})
