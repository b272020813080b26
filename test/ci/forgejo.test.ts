import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import type { Change } from '../../ci/forge.ts'
import { openForgejo } from '../../ci/forgejo.ts'
import { ImagebuildError } from '../../src/core/errors.ts'
import { SecretRegistry } from '../../src/core/secrets.ts'
import { serveForgejo } from './forgejo-server.ts'

const TOKEN = 'token-of-the-tests'
const BRANCH = 'imagebuild/rebuild'
const LOCK = 'imagebuild.lock.json'
const LIST = 'packages/home/web server.txt'

let forgejo: Awaited<ReturnType<typeof serveForgejo>>
let said: string[]
beforeEach(async () => {
  forgejo = await serveForgejo()
  forgejo.git.push('main', { [LOCK]: 'old\n', [LIST]: 'zlib 1\n', 'README.md': 'hello\n' })
  said = []
})
afterEach(async () => {
  await forgejo[Symbol.asyncDispose]()
  vi.unstubAllEnvs()
  expect(forgejo.wrong).toEqual([])
})

/** Waits milliseconds where Forgejo means seconds. */
async function forge() {
  vi.stubEnv('TOKEN_OF_TESTS', TOKEN)
  const settings = {
    kind: 'forgejo',
    api: forgejo.api,
    owner: 'acme',
    repo: 'images',
    token: 'env:TOKEN_OF_TESTS',
  } as const
  const context = { say: (line: string) => void said.push(line), signal: new AbortController().signal }
  return await openForgejo(settings, new SecretRegistry(), context, 1)
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

const FROM_HERE = { head: { ref: BRANCH, repo_id: 1 }, base: { ref: 'main', repo_id: 1 } }

const files = () => forgejo.git.filesAt(forgejo.git.branches.get(BRANCH) ?? '')
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
    const base = forgejo.git.branches.get('main')
    const all = new Map([...change().files, ['new/file.txt', 'here\n'], ['README.md', undefined]])
    const proposal = await (await forge()).propose(change({ files: all }))
    const commit = forgejo.git.branches.get(BRANCH) ?? ''
    expect(proposal).toEqual({
      done: 'created',
      number: 1,
      url: 'https://forgejo.test/acme/images/pulls/1',
      commit,
    })
    expect(forgejo.git.commits.get(commit)?.parents).toEqual([base])
    expect(files()).toEqual({ [LOCK]: 'new\n', [LIST]: 'zlib 2\n', 'new/file.txt': 'here\n' })
    expect(forgejo.writes().map(({ url }) => url.pathname.split('/').at(-1))).toEqual(['contents', 'pulls'])
  })

  test('that is there already writes nothing', async () => {
    const one = await forge()
    await one.propose(change())
    const before = forgejo.writes().length
    expect(await one.propose(change())).toMatchObject({ done: 'unchanged', number: 1 })
    expect(forgejo.writes()).toHaveLength(before)
  })

  test('that is there already keeps the text that came with it, where that is asked for', async () => {
    const one = await forge()
    await one.propose(change())
    const again = change({ body: 'Less is known by now\n', keepText: true })
    expect(await one.propose(again)).toMatchObject({ done: 'unchanged' })
    expect(forgejo.pulls).toMatchObject([{ body: 'What and why\n' }])
    const other = { ...again, files: new Map([[LOCK, 'newer\n']]) }
    expect(await one.propose(other)).toMatchObject({ done: 'updated' })
    expect(forgejo.pulls).toMatchObject([{ body: 'Less is known by now\n' }])
  })

  test('updates an open pull request in place, by one commit on top', async () => {
    const one = await forge()
    await one.propose(
      change({ files: new Map([...change().files, ['a', '1\n'], ['b', '1\n'], ['README.md', undefined]]) }),
    )
    const next = change({ title: 'Rebuild db', files: new Map([[LOCK, 'newer\n']]) })
    expect(await one.propose(next)).toMatchObject({ done: 'updated', number: 1 })
    // What the change before wrote is again as it is on the base.
    expect(files()).toEqual({ [LOCK]: 'newer\n', [LIST]: 'zlib 1\n', 'README.md': 'hello\n' })
    expect(forgejo.pulls).toMatchObject([{ state: 'open', title: 'Rebuild db' }])
  })

  test('takes the base in after that moved', async () => {
    const one = await forge()
    await one.propose(change())
    const moved = forgejo.git.push('main', { 'README.md': 'hello again\n' })
    expect(await one.propose(change())).toMatchObject({ done: 'updated', number: 1 })
    expect(files()).toEqual({ [LOCK]: 'new\n', [LIST]: 'zlib 2\n', 'README.md': 'hello again\n' })
    expect(forgejo.git.isAncestor(moved, forgejo.git.branches.get(BRANCH) ?? '')).toBe(true)
  })

  test('is still this program’s to take back after the base was merged into its branch, again and again', async () => {
    const one = await forge()
    await one.propose(change())
    for (const text of ['hello again\n', 'good bye\n']) {
      forgejo.git.push('main', { 'README.md': text })
      expect(await one.propose(change())).toMatchObject({ done: 'updated', number: 1 })
    }
    expect(await one.propose(change({ files: new Map() }))).toMatchObject({ done: 'closed', number: 1 })
    expect(forgejo.git.branches.has(BRANCH)).toBe(false)
  })

  test('gets a new pull request where the base moved so that the old one conflicts', async () => {
    const one = await forge()
    await one.propose(change())
    forgejo.git.push('main', { [LOCK]: 'another\n' })
    const commits = vi.spyOn(forgejo.git, 'commit')
    const next = change({ files: new Map([[LOCK, 'newest\n']]) })
    expect(await one.propose(next)).toMatchObject({ done: 'created', number: 2 })
    expect(commits).toHaveBeenCalledTimes(1)
    expect(forgejo.pulls).toMatchObject([{ state: 'closed' }, { state: 'open' }])
    expect(forgejo.comments).toMatchObject([{ issue: 1 }])
    expect(files()).toMatchObject({ [LOCK]: 'newest\n', [LIST]: 'zlib 1\n' })
  })

  test('does not overwrite what was changed on the base since the run began', async () => {
    const from = forgejo.git.branches.get('main') ?? ''
    forgejo.git.push('main', { [LOCK]: 'somebody’s\n' })
    const error = await failure((await forge()).propose(change({ from })))
    expect(error).toMatchObject({ code: 'busy', why: expect.stringContaining(LOCK) })
    expect(forgejo.writes()).toEqual([])
  })

  test('takes over a branch that a killed run has left without a pull request', async () => {
    const one = await forge()
    forgejo.faults.push({
      method: 'POST',
      path: /pulls$/,
      times: 1,
      answer: { status: 401, body: { message: 'token is required' } },
    })
    expect(
      await failure(one.propose(change({ files: new Map([[LIST, 'of the killed run\n']]) }))),
    ).toMatchObject({ code: 'permission_denied' })
    expect(files()).toMatchObject({ [LIST]: 'of the killed run\n' })
    expect(await one.propose(change({ files: new Map([[LOCK, 'new\n']]) }))).toMatchObject({
      done: 'created',
      number: 1,
    })
    expect(files()).toEqual({ [LOCK]: 'new\n', [LIST]: 'zlib 1\n', 'README.md': 'hello\n' })
  })

  test('does not remove a branch whose last commit is somebody else’s', async () => {
    forgejo.git.push('main', {})
    forgejo.git.branches.set(BRANCH, forgejo.git.branches.get('main') ?? '')
    forgejo.git.push(BRANCH, { [LOCK]: 'mended by hand\n' }, 'Mend the lockfile')
    const error = await failure((await forge()).propose(change()))
    expect(error).toMatchObject({ code: 'busy', why: expect.stringContaining('Mend the lockfile') })
    expect(files()).toMatchObject({ [LOCK]: 'mended by hand\n' })
  })

  describe('whose branch has a commit of people beneath its pull request', () => {
    test.each([
      ['updates', change({ files: new Map([[LOCK, 'newer\n']]) })],
      ['withdraws', change({ files: new Map() })],
    ])('%s nothing', async (_, next) => {
      const one = await forge()
      await one.propose(change())
      forgejo.git.push(BRANCH, { [LOCK]: 'mended by hand\n' }, 'Mend the lockfile')
      forgejo.git.push('main', { 'README.md': 'hello again\n' })
      const before = forgejo.writes().length
      const error = await failure(one.propose(next))
      expect(error).toMatchObject({ code: 'busy', why: expect.stringContaining('Mend the lockfile') })
      expect(forgejo.writes()).toHaveLength(before)
      expect(forgejo.pulls).toMatchObject([{ state: 'open' }])
    })

    test('refuses a merge of another branch, too', async () => {
      const one = await forge()
      await one.propose(change())
      const { git } = forgejo
      git.branches.set('theirs', git.branches.get('main') ?? '')
      const theirs = git.push('theirs', { 'README.md': 'theirs\n' }, 'Greet otherwise')
      const own = git.branches.get(BRANCH) ?? ''
      const { tree = '' } = git.commits.get(theirs) ?? {}
      git.branches.set(BRANCH, git.commit({ tree, parents: [own, theirs], message: 'Merge theirs' }))
      expect(await failure(one.propose(change({ files: new Map() })))).toMatchObject({ code: 'busy' })
    })
  })

  test('finds its pull request on a later page, and none of a fork', async () => {
    for (const number of [1, 2, 3])
      forgejo.pulls.push({
        number,
        state: 'open',
        title: 'theirs',
        body: '',
        head: BRANCH,
        base: 'main',
        repo: 7,
      })
    const one = await forge()
    expect(await one.propose(change())).toMatchObject({ done: 'created', number: 4 })
    expect(await one.propose(change({ body: 'Better words\n' }))).toMatchObject({
      done: 'updated',
      number: 4,
    })
    expect(forgejo.pulls.filter(({ body }) => body === 'Better words\n')).toHaveLength(1)
  })

  test.each([
    ['counts', { 'x-total-count': '1' }, 1],
    ['does not count, and knows of no pages', {}, 2],
  ])('is found once on a server that %s', async (_, headers, asked) => {
    const one = await forge()
    await one.propose(change())
    const body = [{ number: 1, title: 'Rebuild web', body: 'What and why\n', ...FROM_HERE }]
    forgejo.faults.push({ method: 'GET', path: /pulls$/, times: 9, answer: { status: 200, body, headers } })
    const before = forgejo.requests.length
    await one.propose(change({ files: new Map() }))
    const lists = forgejo.requests.slice(before).filter(({ path }) => path.endsWith('/pulls'))
    expect(lists).toHaveLength(asked)
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
  ])('(%s) sends nothing', async (_, none) => {
    expect(await (await forge()).propose(change({ files: none }))).toEqual({ done: 'nothing' })
    expect(forgejo.writes()).toEqual([])
  })

  test('closes an open pull request with a comment, and removes its branch', async () => {
    const one = await forge()
    await one.propose(change())
    expect(await one.propose(change({ files: new Map() }))).toMatchObject({ done: 'closed', number: 1 })
    expect(forgejo.comments).toEqual([{ issue: 1, body: 'Nothing is stale any more.' }])
    expect(forgejo.pulls).toMatchObject([{ state: 'closed' }])
    expect(forgejo.git.branches.has(BRANCH)).toBe(false)
  })
})

test('a status is one line at the commit', async () => {
  const commit = forgejo.git.branches.get('main') ?? ''
  const annotations = [{ file: 'images/web/image.yaml', line: 3, level: 'failure', text: 'wrong' }] as const
  const url = 'https://ci.test/1'
  await (await forge()).report({
    commit,
    name: 'imagebuild',
    state: 'failure',
    title: 'nginx failed',
    summary: '',
    url,
    annotations,
  })
  expect(forgejo.statuses).toEqual([
    { sha: commit, context: 'imagebuild', state: 'failure', description: 'nginx failed', target_url: url },
  ])
})

describe('patience', () => {
  test('Retry-After is waited for, and said, also before a write', async () => {
    const answer = { status: 429, body: { message: 'slow down' }, headers: { 'retry-after': '7' } }
    forgejo.faults.push({ method: 'POST', path: /contents$/, times: 1, answer })
    expect(await (await forge()).propose(change())).toMatchObject({ done: 'created' })
    expect(said).toEqual([expect.stringContaining('7 s')])
  })

  test('a read is repeated where the server breaks, a write is not', async () => {
    const answer = { status: 502, body: { message: 'Bad Gateway' } }
    forgejo.faults.push(
      { method: 'GET', path: /pulls$/, times: 2, answer },
      { method: 'POST', path: /contents$/, times: 1, answer },
    )
    expect(await failure((await forge()).propose(change()))).toMatchObject({ code: 'unreachable' })
    expect(forgejo.writes()).toHaveLength(1)
  })
})

describe('an answer that is none', () => {
  const html = { 'content-type': 'text/html' }
  test.each([
    ['a page of a proxy', { status: 200, text: '<html>Log in</html>', headers: html }, /text\/html/],
    ['half of one', { status: 201, body: { number: 1 }, cut: true }, /terminated|other side|closed/],
  ] as const)('(%s) is said, and written once', async (_, answer, why) => {
    forgejo.faults.push({ method: 'POST', path: /pulls$/, times: 9, answer })
    const error = await failure((await forge()).propose(change()))
    expect(error).toMatchObject({ code: 'unreachable', next: expect.stringContaining('address') })
    expect(error.why).toMatch(why)
    expect(forgejo.writes()).toHaveLength(2)
  })

  test('is asked for again where that changes nothing', async () => {
    const answer = { status: 200, body: [], cut: true } as const
    forgejo.faults.push({ method: 'GET', path: /pulls$/, times: 2, answer })
    expect(await (await forge()).propose(change())).toMatchObject({ done: 'created' })
  })
})

describe('a refusal says what to do', () => {
  test.each([
    [
      403,
      'token does not have at least one of required scope(s): [write:repository]',
      'permission_denied',
      /write:repository/,
    ],
    [401, 'invalid username, password or token', 'permission_denied', /valid/],
    [404, 'not found', 'not_found', /IMAGEBUILD_FORGE_TOKEN/],
    [423, 'This repository is archived', 'permission_denied', /unarchive/],
    [422, 'branch already exists', 'busy', /run again/],
    [422, 'title is too long', 'internal', /--debug/],
  ])('%i %s', async (status, message, code, next) => {
    forgejo.faults.push({ method: 'POST', path: /pulls$/, times: 1, answer: { status, body: { message } } })
    const error = await failure((await forge()).propose(change()))
    expect(error).toMatchObject({ code, why: message, what: 'no pull request was written in acme/images' })
    expect(error.next).toMatch(next)
    expect(JSON.stringify([error, error.stack, { ...(error.cause as object) }])).not.toContain(TOKEN)
  })
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
