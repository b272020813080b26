import Bottleneck from 'bottleneck'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { dryRun } from '../../ci/dry-run.ts'
import type { Change, Forge } from '../../ci/forge.ts'
import { openForgejo } from '../../ci/forgejo.ts'
import { openGithub } from '../../ci/github.ts'
import { pullRequestBody } from '../../ci/pull-request-body.ts'
import { REDACTED, SecretRegistry } from '../../src/core/secrets.ts'
import { serveForgejo } from './forgejo-server.ts'
import { serveGithub } from './github-server.ts'

const SECRET = 'hunter2-hunter2-hunter2'
/** As a terminal's width breaks it. */
const BROKEN = 'hunter2-hunt\ner2-hunter2'

let secrets: SecretRegistry
beforeEach(() => {
  vi.stubEnv('TOKEN_OF_TESTS', 'ghs_token-of-the-tests')
  secrets = new SecretRegistry()
  secrets.add(SECRET)
})
afterEach(() => {
  vi.unstubAllEnvs()
})

const change = (more: Partial<Change> = {}): Change => ({
  branch: 'imagebuild/rebuild',
  base: 'main',
  title: `Rebuild ${SECRET}`,
  body: `It says\n${BROKEN}\n`,
  closingComment: `No ${SECRET} any more`,
  files: new Map([['imagebuild.lock.json', 'new\n']]),
  ...more,
})

type Kind = 'github' | 'forgejo' | 'dry run'

/** @returns `sent`: all that left, as text */
async function opened(kind: Kind) {
  const server = kind === 'forgejo' ? await serveForgejo() : await serveGithub()
  server.git.push('main', { 'imagebuild.lock.json': 'old\n' })
  const lines: string[] = []
  const settings = {
    kind: kind === 'forgejo' ? 'forgejo' : 'github',
    api: server.api,
    owner: 'acme',
    repo: 'images',
    token: 'env:TOKEN_OF_TESTS',
  } as const
  const context = { say: (line: string) => void lines.push(line), signal: new AbortController().signal }
  const quick = () => new Bottleneck.Group({ maxConcurrent: 1 })
  const pace = { write: quick(), notifications: quick() }
  const forges: Record<Kind, () => Forge | Promise<Forge>> = {
    'dry run': () => dryRun(settings, (line) => lines.push(line), secrets),
    forgejo: () => openForgejo(settings, secrets, context),
    github: () => openGithub(settings, secrets, context, pace),
  }
  const forge = await forges[kind]()
  const sent = () =>
    [...lines, ...server.writes().map(({ body }) => JSON.stringify(body))].join('\n').replaceAll('\\n', '\n')
  return { forge, server, sent, [Symbol.asyncDispose]: server[Symbol.asyncDispose] }
}

describe.each<Kind>(['github', 'forgejo', 'dry run'])('%s', (kind) => {
  test('shows no secret in a pull request, nor where that is closed', async () => {
    await using world = await opened(kind)
    await world.forge.propose(change())
    await world.forge.propose(change({ files: new Map() }))
    expect(world.sent()).toContain(`Rebuild ${REDACTED}`)
    expect(world.sent()).toContain(`No ${REDACTED} any more`)
    expect(world.sent()).not.toMatch(/hunter2|hunt/)
  })

  test('shows no secret in a status', async () => {
    await using world = await opened(kind)
    await world.forge.report({
      commit: world.server.git.branches.get('main') ?? '',
      name: 'imagebuild',
      state: 'failure',
      // The end of what a forge takes goes through the secret.
      title: `${'x'.repeat(110)} ${SECRET} ${'x'.repeat(300)}`,
      summary: `It says\n${BROKEN}\n`,
      annotations: [{ file: 'image.yaml', line: 1, level: 'failure', text: `It says\n${BROKEN}` }],
    })
    expect(world.sent()).toContain(REDACTED)
    expect(world.sent()).not.toMatch(/hunt/)
  })

  test.each([
    ['content', new Map([['web.txt', `token ${SECRET}\n`]]), /web\.txt/],
    ['path', new Map([[`lists/${SECRET}.txt`, 'zlib 1\n']]), /lists/],
  ])('sends no file with a secret as its %s', async (_, files, what) => {
    await using world = await opened(kind)
    const error = await world.forge.propose(change({ files })).catch((thrown: unknown) => thrown)
    expect(error).toMatchObject({ code: 'definition_invalid', what: expect.stringMatching(what) })
    expect(String(error)).not.toContain(SECRET)
    expect(world.sent()).toBe('')
  })
})

test('the body of a pull request has no secret that it would escape, join or cut', () => {
  const failed = [
    { image: 'web', why: `It says\n${BROKEN}` },
    { image: 'db', why: `${'x'.repeat(960)} ${SECRET} ${'x'.repeat(99)}` },
  ]
  const body = pullRequestBody({ target: 'home', rebuilt: [], failed }, secrets)
  expect(body.split(REDACTED)).toHaveLength(4)
  expect(body).not.toContain('hunt')
})
