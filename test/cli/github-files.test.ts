import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { type CiResult, type ImageOutcome, writeResult } from '../../src/cli/ci-result.ts'
import { writeGithubFiles } from '../../src/cli/github-files.ts'
import { guardOutput } from '../../src/cli/output.ts'
import { cli } from './captured.ts'

/** What scheduled runs hand to GitHub Actions, and what they are handed by it. */

let folder: string
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'imagebuild-github-'))
})
afterEach(async () => {
  vi.unstubAllEnvs()
  guardOutput()
  await rm(folder, { recursive: true })
})

const current = (vmid: number) => ({ version: `20261201.${vmid}`, vmids: { a: vmid, b: vmid + 1 } })
const outcome = (image: string, more: Partial<ImageOutcome>): ImageOutcome => ({
  ...{ image, outcome: 'built', reasons: [], packages: [], changes: [], seconds: 3 },
  ...more,
})
const result = (images: ImageOutcome[], problems: string[] = []): CiResult => ({
  ...{ schema: 1, namespace: 'homelab', target: 'home', images, suites: {}, problems },
  ...{ started: '2026-12-01T02:00:00.000Z', ended: '2026-12-01T02:10:00.000Z' },
})
const web = outcome('web-1', { before: current(9000), after: current(9004), reasons: ['age: | old'] })
const db = outcome('db', {
  ...{ outcome: 'failed', before: current(9010), after: current(9010) },
  failure: { what: 'hunter2 is wrong', exitCode: 1 },
})
const fresh = outcome('new', { outcome: 'failed', failure: { what: 'no room', exitCode: 1 } })

describe('a step', () => {
  test('has the VMID of each current template as an output, and a page without secrets', async () => {
    const [GITHUB_OUTPUT, GITHUB_STEP_SUMMARY] = [join(folder, 'output'), join(folder, 'summary')]
    await writeFile(GITHUB_OUTPUT, 'before=1\n')
    vi.stubEnv('GITHUB_OUTPUT', GITHUB_OUTPUT)
    vi.stubEnv('GITHUB_STEP_SUMMARY', GITHUB_STEP_SUMMARY)
    guardOutput().add('hunter2')
    await writeGithubFiles(result([web, db, fresh], ['@all: a broken index']))
    const outputs = (await readFile(GITHUB_OUTPUT, 'utf8')).replaceAll(/<<(\S+)\n(.*)\n\1\n/g, '=$2\n')
    expect(outputs).toBe('before=1\ntemplate_id_web-1=9004\ntemplate_id_db=9010\n')
    const page = await readFile(GITHUB_STEP_SUMMARY, 'utf8')
    expect(page).toContain(
      '| `web-1` | built | `20261201.9000` | `20261201.9004` | 9004 on `a`, 9005 on `b` |',
    )
    expect(page).toContain('| age\\: \\| old |')
    expect(page).toContain('- Problem: \\@\u200ball\\: a broken index')
    expect(page).toContain('is wrong')
    expect(page).not.toContain('hunter2')
  })

  test('of another system has neither', async () => {
    vi.stubEnv('GITHUB_OUTPUT', undefined)
    vi.stubEnv('GITHUB_STEP_SUMMARY', undefined)
    await writeGithubFiles(result([web]))
  })
})

describe('ci report', () => {
  let messages: string[]
  const families = (...names: string[]) =>
    JSON.stringify({ include: names.map((family) => ({ family, images: `${family} ${family}-child` })) })

  async function report(...args: string[]) {
    messages = []
    await using server = createServer(async (request, response) => {
      messages.push((await request.toArray()).join(''))
      response.setHeader('connection', 'close').end()
    })
    await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening))
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
    vi.stubEnv('WEBHOOK', url)
    const config = join(folder, 'imagebuild.yaml')
    await writeFile(
      config,
      'namespace: homelab\ntarget: home\ntargets: { home: { kind: lab } }\nci: { notify: [{ kind: webhook, url: env:WEBHOOK }] }\n',
    )
    return await cli('--config', config, 'ci', 'report', '--results', join(folder, 'results'), ...args)
  }

  test('names the families whose job has left no result, as a failure', async () => {
    await writeResult(
      join(folder, 'results/result-web/web.json'),
      result([outcome('web', { outcome: 'unchanged' })]),
    )
    const { code, stderr } = await report('--families', families('web', 'db'))
    expect(stderr).toContain('problem: there is no result of db: look into the log of its job\n')
    expect(stderr).not.toContain('no result of web')
    expect(code).toBe(1)
    expect(messages).toEqual([expect.stringContaining('there is no result of db')])
    expect((await report('--families', families('web'))).code).toBe(0)
  })

  test('tells it, too, where no job has left any', async () => {
    for (const make of [false, true]) {
      if (make) await mkdir(join(folder, 'results'))
      const { code, stderr } = await report('--families', families('web'))
      expect(stderr).toContain('there is no result of web')
      expect(code).toBe(1)
      expect(messages).toHaveLength(1)
    }
    expect((await report()).code).toBe(64)
  })

  test.each(['{', '{"include":[{"family":"../x","images":"a"}]}'])('refuses %s as families', async (text) => {
    await writeResult(join(folder, 'results/web.json'), result([web]))
    expect((await report('--families', text)).code).toBe(64)
    expect(messages).toEqual([])
  })
})

describe('validate', () => {
  const project = (source: string, image = 'web') => ({
    'imagebuild.yaml':
      'namespace: homelab\ntarget: home\ntargets: { home: { kind: pve, node: pve, token: "cmd:touch ran", bridge: vmbr0, addresses: dhcp, storages: { disks: local, images: local } } }\n',
    [`images/${image}/image.yaml`]: `name: web\n${source}\n`,
  })

  async function validate(files: Record<string, string>) {
    for (const [path, text] of Object.entries(files)) {
      await mkdir(join(folder, path, '..'), { recursive: true })
      await writeFile(join(folder, path), text)
    }
    vi.stubEnv('GITHUB_WORKSPACE', folder)
    return await cli('--config', join(folder, 'imagebuild.yaml'), 'validate')
  }

  test('shows mistakes at their lines on GitHub, and only there', async () => {
    const files = project('source: { url: "ftp://%\\n::error::x" }', 'we,b')
    vi.stubEnv('GITHUB_ACTIONS', 'true')
    const { code, stderr } = await validate(files)
    expect(code).toBe(65)
    const commands = stderr.split('\n').filter((line) => line.startsWith('::'))
    expect(commands.length).toBeGreaterThan(0)
    for (const command of commands)
      expect(command).toMatch(/^::error file=images\/we%2Cb\/image.yaml,line=\d+,col=\d+::[^:]/)
    vi.stubEnv('GITHUB_ACTIONS', '')
    expect((await validate(files)).stderr).not.toMatch(/^::/m)
  })

  test('resolves no secret', async () => {
    const { code, stderr } = await validate(
      project('source: { bootstrap: { distribution: debian, suite: trixie } }'),
    )
    expect(code, stderr).toBe(0)
    await expect(readFile(join(folder, 'ran'))).rejects.toThrow('ENOENT')
    await expect(readFile('ran')).rejects.toThrow('ENOENT')
  })
})
