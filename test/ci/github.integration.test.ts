import Bottleneck from 'bottleneck'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import type { Change, Status } from '../../ci/forge.ts'
import { openGithub } from '../../ci/github.ts'
import { ImagebuildError } from '../../src/core/errors.ts'
import { SecretRegistry } from '../../src/core/secrets.ts'
import { serveGithub } from './github-server.ts'

const APP = 'ghs_app-of-the-tests'
const PERSON = 'ghp_person-of-the-tests'
const BRANCH = 'imagebuild/rebuild'
const LOCK = 'imagebuild.lock.json'
const LIST = 'packages/home/web.txt'

let github: Awaited<ReturnType<typeof serveGithub>>
let said: string[]
beforeEach(async () => {
  github = await serveGithub()
  github.git.push('main', { [LOCK]: 'old\n', [LIST]: 'zlib 1\n', 'README.md': 'hello\n' })
  said = []
})
afterEach(async () => {
  await github[Symbol.asyncDispose]()
  vi.unstubAllEnvs()
  expect(github.wrong).toEqual([])
})

/** Waits milliseconds where GitHub means seconds. */
async function forge(token = APP, signal = new AbortController().signal) {
  vi.stubEnv('TOKEN_OF_TESTS', token)
  const settings = {
    kind: 'github',
    api: github.api,
    owner: 'acme',
    repo: 'images',
    token: 'env:TOKEN_OF_TESTS',
  } as const
  const say = (line: string) => void said.push(line)
  const quick = () => new Bottleneck.Group({ maxConcurrent: 1 })
  const pace = { retryAfterBaseValue: 1, write: quick(), notifications: quick() }
  return await openGithub(settings, new SecretRegistry(), { say, signal }, pace)
}

const change = (more: Partial<Change> = {}): Change => ({
  branch: BRANCH,
  base: 'main',
  title: 'Rebuild web',
  body: 'What and why\n',
  files: new Map<string, string | undefined>([
    [LOCK, 'new\n'],
    [LIST, 'zlib 2\n'],
  ]),
  closingComment: 'Nothing is stale any more.',
  ...more,
})

const head = () => github.git.commits.get(github.git.branches.get(BRANCH) ?? '')
const failure = async (work: Promise<unknown>) => {
  const error = await work.then(
    () => undefined,
    (thrown: unknown) => thrown,
  )
  if (error instanceof ImagebuildError) return error
  throw error ?? new Error('nothing failed')
}

describe('a change', () => {
  test('becomes one branch of one commit upon the base, and one pull request', async () => {
    const base = github.git.branches.get('main')
    const files = new Map([...change().files, ['new/deep/file.txt', 'here\n'], ['README.md', undefined]])
    expect(await (await forge()).propose(change({ files }))).toEqual({
      done: 'created',
      number: 1,
      url: 'https://github.test/acme/images/pull/1',
      commit: head()?.sha,
    })
    expect(head()).toMatchObject({ parents: [base] })
    expect(github.git.filesAt(head()?.sha ?? '')).toEqual({
      [LOCK]: 'new\n',
      [LIST]: 'zlib 2\n',
      'new/deep/file.txt': 'here\n',
    })
    expect(github.pulls).toEqual([
      { number: 1, state: 'open', title: 'Rebuild web', body: 'What and why\n', head: BRANCH, base: 'main' },
    ])
  })

  test('is committed without author and committer, so that GitHub signs it', async () => {
    await (await forge()).propose(change())
    const commit = github.requests.find(
      ({ method, url }) => method === 'POST' && url.pathname.endsWith('/git/commits'),
    )
    expect(Object.keys(commit?.body)).toEqual(['message', 'tree', 'parents'])
  })

  test('that is there already writes nothing', async () => {
    const one = await forge()
    await one.propose(change())
    const before = github.writes().length
    expect(await one.propose(change())).toMatchObject({ done: 'unchanged', number: 1 })
    expect(github.writes()).toHaveLength(before)
  })

  test('that is there already keeps the text that came with it, where that is asked for', async () => {
    const one = await forge()
    await one.propose(change())
    const again = change({ body: 'Less is known by now\n', keepText: true })
    expect(await one.propose(again)).toMatchObject({ done: 'unchanged' })
    expect(github.pulls).toMatchObject([{ body: 'What and why\n' }])
    const other = { ...again, files: new Map([[LOCK, 'newer\n']]) }
    expect(await one.propose(other)).toMatchObject({ done: 'updated' })
    expect(github.pulls).toMatchObject([{ body: 'Less is known by now\n' }])
  })

  test('updates an open pull request in place', async () => {
    const one = await forge()
    await one.propose(change())
    const next = change({ title: 'Rebuild web and db', files: new Map([[LOCK, 'newer\n']]) })
    expect(await one.propose(next)).toMatchObject({ done: 'updated', number: 1 })
    expect(github.pulls).toMatchObject([{ state: 'open', title: 'Rebuild web and db' }])
    // What the change before wrote is gone: one commit upon the base again.
    expect(github.git.filesAt(head()?.sha ?? '')).toMatchObject({ [LOCK]: 'newer\n', [LIST]: 'zlib 1\n' })
    expect(head()?.parents).toEqual([github.git.branches.get('main')])
  })

  test('of another text only leaves the branch alone', async () => {
    const one = await forge()
    await one.propose(change())
    const commit = head()?.sha
    expect(await one.propose(change({ body: 'Better words\n' }))).toMatchObject({ done: 'updated' })
    expect(github.pulls).toMatchObject([{ body: 'Better words\n' }])
    expect(head()?.sha).toBe(commit)
  })

  test('comes upon the present base after that moved', async () => {
    const one = await forge()
    await one.propose(change())
    const moved = github.git.push('main', { 'README.md': 'hello again\n' })
    expect(await one.propose(change())).toMatchObject({ done: 'updated' })
    expect(head()?.parents).toEqual([moved])
    expect(github.git.filesAt(head()?.sha ?? '')).toMatchObject({
      'README.md': 'hello again\n',
      [LOCK]: 'new\n',
    })
  })

  test('does not overwrite what was changed on the base since the run began', async () => {
    const from = github.git.branches.get('main') ?? ''
    github.git.push('main', { [LOCK]: 'somebody’s\n' })
    const error = await failure((await forge()).propose(change({ from })))
    expect(error).toMatchObject({ code: 'busy', why: expect.stringContaining(LOCK) })
    expect(error.why).not.toContain(LIST)
    expect(github.writes()).toEqual([])
  })

  test('is written although the base moved elsewhere since the run began', async () => {
    const from = github.git.branches.get('main') ?? ''
    github.git.push('main', { 'README.md': 'hello again\n' })
    expect(await (await forge()).propose(change({ from }))).toMatchObject({ done: 'created' })
  })

  test('takes over a branch that a killed run has left without a pull request', async () => {
    const one = await forge()
    const killed = {
      method: 'POST',
      path: /pulls$/,
      times: 1,
      answer: { status: 401, body: { message: 'Bad credentials' } },
    }
    github.faults.push(killed)
    await failure(one.propose(change({ files: new Map([[LOCK, 'of the killed run\n']]) })))
    expect(head()).toBeDefined()
    expect(await one.propose(change())).toMatchObject({ done: 'created', number: 1 })
    expect(github.git.filesAt(head()?.sha ?? '')).toMatchObject({ [LOCK]: 'new\n' })
  })

  test('does not overwrite a commit of somebody else on its branch', async () => {
    const one = await forge()
    await one.propose(change())
    const theirs = github.git.push(BRANCH, { [LOCK]: 'mended by hand\n' }, 'Mend the lockfile')
    const error = await failure(one.propose(change({ files: new Map([[LOCK, 'newer\n']]) })))
    expect(error).toMatchObject({ code: 'busy', why: expect.stringContaining('Mend the lockfile') })
    expect(head()?.sha).toBe(theirs)
  })

  test.each([
    ['main', 'main'],
    ['imagebuild/x', 'imagebuild/x'],
    ['feature', 'main'],
  ])('is never written to the branch %s upon %s', async (branch, base) => {
    expect(await failure((await forge()).propose(change({ branch, base })))).toMatchObject({ code: 'usage' })
    expect(github.requests).toEqual([])
  })

  test('meets another run that creates the branch at the same moment', async () => {
    const meanwhile = () =>
      void github.git.branches.set(
        BRANCH,
        github.git.commit({ tree: 'x', parents: [], message: `x\n\nImagebuild-Change: ${'0'.repeat(64)}\n` }),
      )
    github.faults.push({
      method: 'POST',
      path: /refs$/,
      times: 1,
      meanwhile,
      after: true,
      answer: { status: 422, body: { message: 'Reference already exists' } },
    })
    expect(await (await forge()).propose(change())).toMatchObject({ done: 'created' })
    expect(github.git.filesAt(head()?.sha ?? '')).toMatchObject({ [LOCK]: 'new\n' })
  })

  test('has one pull request although the answer to its creation was lost', async () => {
    github.faults.push({
      method: 'POST',
      path: /pulls$/,
      times: 1,
      after: true,
      answer: { status: 502, body: { message: 'Bad Gateway' } },
    })
    expect(await (await forge()).propose(change())).toMatchObject({ number: 1 })
    expect(github.pulls).toHaveLength(1)
  })

  test('of much text goes in several trees, and is one commit', async () => {
    const files = new Map(['a', 'b', 'c'].map((name) => [`packages/${name}.txt`, name.repeat(600_000)]))
    await (await forge()).propose(change({ files }))
    const sent = github.writes().map(({ url }) => url.pathname.split('/').at(-1))
    expect(sent).toEqual(['trees', 'trees', 'trees', 'commits', 'refs', 'pulls'])
    expect(Object.keys(github.git.filesAt(head()?.sha ?? ''))).toEqual(
      expect.arrayContaining([...files.keys(), LOCK]),
    )
  })
})

describe('nothing to change', () => {
  test.each([
    ['no file', new Map()],
    [
      'what the base has',
      new Map([
        [LOCK, 'old\n'],
        ['gone.txt', undefined],
      ]),
    ],
  ])('(%s) sends nothing', async (_, files) => {
    expect(await (await forge()).propose(change({ files }))).toEqual({ done: 'nothing' })
    expect(github.writes()).toEqual([])
  })

  test('closes an open pull request with a comment, and removes its branch', async () => {
    const one = await forge()
    await one.propose(change())
    github.git.push('main', Object.fromEntries(change().files))
    expect(await one.propose(change())).toMatchObject({ done: 'closed', number: 1 })
    expect(github.comments).toEqual([{ issue: 1, body: 'Nothing is stale any more.' }])
    expect(github.pulls).toMatchObject([{ state: 'closed' }])
    expect(github.git.branches.has(BRANCH)).toBe(false)
  })
})

test('a pull request whose branch has a commit of people stays open, and nothing is said in it', async () => {
  const one = await forge()
  await one.propose(change())
  github.git.push(BRANCH, { [LOCK]: 'mended by hand\n' }, 'Mend the lockfile')
  const before = github.writes().length
  expect(await failure(one.propose(change({ files: new Map() })))).toMatchObject({ code: 'busy' })
  expect(github.writes()).toHaveLength(before)
})

const status = (annotations: number): Status => ({
  commit: github.git.branches.get('main') ?? '',
  name: 'imagebuild',
  state: 'failure',
  title: 'web: the check nginx failed',
  summary: 'Details',
  annotations: Array.from({ length: annotations }, (_, at) => ({
    file: 'images/web/image.yaml',
    line: at + 1,
    level: 'failure',
    text: `line ${at + 1}`,
  })),
})

describe('a status', () => {
  test('of an App is a check run, whose 60 annotations go in two calls', async () => {
    await (await forge()).report(status(60))
    expect(github.writes().map(({ body }) => body.output.annotations.length)).toEqual([50, 10])
    expect(github.checkRuns).toMatchObject([
      { name: 'imagebuild', status: 'completed', conclusion: 'failure' },
    ])
    expect(
      github.checkRuns[0].output.annotations.map(({ start_line }: { start_line: number }) => start_line),
    ).toEqual(status(60).annotations.map(({ line }) => line))
    expect(github.statuses).toEqual([])
  })

  test('of an App with the longer tokens of 2026 is a check run too', async () => {
    await (await forge('ghs_123_eyJhbGciOiJ.eyJpc3MiOiJ.c2lnbmF0dXJl')).report(status(0))
    expect(github.checkRuns).toHaveLength(1)
  })

  test('of an App has texts as long as GitHub takes them: a message counts in bytes', async () => {
    const long = '…'.repeat(70_000)
    const annotations = [{ file: 'a', line: 1, level: 'failure', text: long }] as const
    await (await forge()).report({ ...status(0), title: long, summary: long, annotations })
    const { title, summary, annotations: sent } = github.checkRuns[0].output
    expect([title.length, summary.length]).toEqual([255, 65_535])
    expect(sent[0].message).toMatch(/^…+ … \(cut at 65536 bytes\)$/)
    const bytes = Buffer.byteLength(sent[0].message)
    expect(bytes).toBeLessThanOrEqual(65_536)
    expect(bytes).toBeGreaterThan(65_536 - Buffer.byteLength('…'))
  })

  test('of a person is a commit status, in one line of 140 characters', async () => {
    await (await forge(PERSON)).report({ ...status(3), title: 'x'.repeat(300) })
    expect(github.statuses).toMatchObject([{ context: 'imagebuild', state: 'failure' }])
    expect(github.statuses[0].description).toHaveLength(140)
    expect(github.checkRuns).toEqual([])
  })

  test('of a token that only looks like an App’s is a commit status', async () => {
    github.faults.push({
      method: 'POST',
      path: /check-runs$/,
      times: 1,
      answer: { status: 403, body: { message: 'You must authenticate via a GitHub App.' } },
    })
    await (await forge()).report(status(0))
    expect(github.statuses).toHaveLength(1)
  })
})

describe('limits', () => {
  test.each([
    [
      'the hourly limit',
      403,
      'API rate limit exceeded for installation ID 1.',
      () => ({
        'x-ratelimit-remaining': '0',
        'x-ratelimit-reset': String(Math.floor(Date.now() / 1000) + 30),
      }),
    ],
    ['a secondary limit', 403, 'You have exceeded a secondary rate limit.', () => ({ 'retry-after': '7' })],
    ['a secondary limit', 429, 'You have exceeded a secondary rate limit.', () => ({ 'retry-after': '7' })],
  ])('%s (%i) is waited for, and said', async (_, code, message, headers) => {
    github.faults.push({
      method: 'GET',
      path: /git\/ref/,
      times: 1,
      answer: { status: code, body: { message }, headers: headers() },
    })
    expect(await (await forge()).propose(change())).toMatchObject({ done: 'created' })
    expect(said).toEqual([
      expect.stringMatching(code === 403 && message.includes('hour') ? /hourly/ : /asking again in \d+ s/),
    ])
    if ('retry-after' in headers()) expect(said[0]).toContain('7 s')
  })

  test('that are an hour away are said, with when to run again', async () => {
    const reset = Math.floor(Date.now() / 1000) + 3000
    const headers = { 'x-ratelimit-remaining': '0', 'x-ratelimit-reset': String(reset) }
    github.faults.push({
      method: 'GET',
      path: /./,
      times: 99,
      answer: { status: 403, body: { message: 'API rate limit exceeded' }, headers },
    })
    const error = await failure((await forge()).propose(change()))
    expect(error).toMatchObject({
      code: 'busy',
      next: expect.stringContaining(new Date(reset * 1000).toISOString()),
    })
    expect(github.requests).toHaveLength(1)
  })

  test('a server that breaks is asked again', async () => {
    github.faults.push({
      method: 'GET',
      path: /pulls$/,
      times: 2,
      answer: { status: 502, body: { message: 'Bad Gateway' } },
    })
    expect(await (await forge()).propose(change())).toMatchObject({ done: 'created' })
  })
})

describe('a refusal says what to do', () => {
  test.each([
    [
      'GitHub Actions is not permitted to create or approve pull requests.',
      403,
      {},
      /Allow GitHub Actions to create and approve pull requests.*organization/,
    ],
    [
      'Resource not accessible by integration',
      403,
      { 'x-accepted-github-permissions': 'pull_requests=write' },
      /pull-requests: write/,
    ],
    ['Resource not accessible by personal access token', 403, {}, /contents: write/],
    [
      'Must have admin rights to Repository.',
      403,
      { 'x-oauth-scopes': 'read:org', 'x-accepted-oauth-scopes': 'repo, public_repo' },
      /scopes repo, public_repo/,
    ],
    ['Not Found', 404, { 'x-oauth-scopes': '', 'x-accepted-oauth-scopes': 'repo' }, /scopes repo/],
    ['Resource protected by organization SAML enforcement.', 403, {}, /SSO/],
    ['Repository was archived so is read-only.', 403, {}, /unarchive/],
    ['Repository rule violations found', 422, {}, /Rules/],
    ['Bad credentials', 401, {}, /token that is valid/],
  ])('%s', async (message, code, headers, next) => {
    github.faults.push({
      method: 'POST',
      path: /pulls$/,
      times: 1,
      answer: { status: code, body: { message }, headers },
    })
    const error = await failure((await forge()).propose(change()))
    expect(error).toMatchObject({
      code: 'permission_denied',
      what: 'no pull request was written in acme/images',
    })
    expect(error.why).toContain(message)
    expect(error.next).toMatch(next)
  })

  test('a base branch that is not there', async () => {
    expect(await failure((await forge()).propose(change({ base: 'trunk' })))).toMatchObject({
      code: 'not_found',
    })
  })

  test('a server that is not there', async () => {
    const one = await forge()
    await github[Symbol.asyncDispose]()
    expect(await failure(one.propose(change()))).toMatchObject({ code: 'unreachable' })
    github = await serveGithub()
  })

  test('the token stands in no error and in no line', async () => {
    github.faults.push({
      method: 'GET',
      path: /./,
      times: 9,
      answer: { status: 401, body: { message: 'Bad credentials' } },
    })
    const error = await failure((await forge()).propose(change()))
    const all = JSON.stringify([error, said, { ...(error.cause as object) }, error.stack])
    expect(all).not.toContain(APP)
    expect(github.requests[0]?.headers.authorization).toContain(APP)
  })
})

test('an interruption is said as one, and no refusal of GitHub', async () => {
  const controller = new AbortController()
  const one = await forge(APP, controller.signal)
  controller.abort(new Error('interrupted'))
  await expect(one.propose(change())).rejects.toThrow('interrupted')
})

test('files of a branch are read, and what new branches begin at', async () => {
  const one = await forge()
  expect(await one.read(BRANCH, LIST)).toBeUndefined()
  await one.propose(change())
  expect(await one.read(BRANCH, LIST)).toBe('zlib 2\n')
  expect(await one.read('main', LIST)).toBe('zlib 1\n')
  expect(await one.read(BRANCH, 'absent.txt')).toBeUndefined()
  expect(await one.defaultBranch()).toBe('main')
})
