import { type Answered, type Asked, serveForge } from './forge-server.ts'
import { GitStore } from './git-store.ts'
import { wrongWith } from './openapi.ts'

export interface Pull {
  number: number
  state: 'open' | 'closed'
  title: string
  body: string
  head: string
  base: string
}

const refusal = (status: number, message: string, more: object = {}): Answered => ({
  status,
  body: { message, documentation_url: 'https://docs.github.com/rest', status: String(status), ...more },
})

/**
 * GitHub for one repository `acme/images`, with state. Each request must be what GitHub's description of its API says;
 * what is not so is remembered in `wrong`, and refused.
 */
export async function serveGithub() {
  const git = new GitStore()
  const pulls: Pull[] = []
  const comments: { issue: number; body: string }[] = []
  // biome-ignore lint/suspicious/noExplicitAny: what a client sent is looked at by each test
  const checkRuns: any[] = []
  // biome-ignore lint/suspicious/noExplicitAny: as above
  const statuses: any[] = []
  const wrong: string[] = []

  const shown = (pull: Pull) => ({
    ...pull,
    html_url: `https://github.test/acme/images/pull/${pull.number}`,
    head: { ref: pull.head, repo: { full_name: 'acme/images' } },
    base: { ref: pull.base },
  })
  const open = (head: string) => pulls.find((one) => one.state === 'open' && one.head === head)

  const routes: [string, RegExp, (asked: Asked, found: string[]) => Answered][] = [
    ['GET', /^$/, () => ({ status: 200, body: { full_name: 'acme/images', default_branch: 'main' } })],
    [
      'GET',
      /^\/contents\/(.+)$/,
      ({ url }, [path = '']) => {
        const commit = git.branches.get(url.searchParams.get('ref') ?? 'main')
        const sha = commit && git.flat(git.commits.get(commit)?.tree ?? '')[path]
        return sha ? { status: 200, body: { type: 'file', path, sha } } : refusal(404, 'Not Found')
      },
    ],
    [
      'GET',
      /^\/git\/blobs\/(\w+)$/,
      (_, [sha = '']) => {
        const text = git.blobs.get(sha)
        if (text === undefined) return refusal(404, 'Not Found')
        const content = Buffer.from(text).toString('base64')
        return { status: 200, body: { sha, encoding: 'base64', content } }
      },
    ],
    [
      'GET',
      /^\/git\/ref\/heads\/(.+)$/,
      (_, [branch = '']) => {
        const sha = git.branches.get(branch)
        return sha
          ? { status: 200, body: { ref: `refs/heads/${branch}`, object: { sha, type: 'commit' } } }
          : refusal(404, 'Not Found')
      },
    ],
    [
      'GET',
      /^\/git\/commits\/(\w+)$/,
      (_, [sha = '']) => {
        const commit = git.commits.get(sha)
        if (!commit) return refusal(404, 'Not Found')
        return {
          status: 200,
          body: {
            ...commit,
            tree: { sha: commit.tree },
            parents: commit.parents.map((one) => ({ sha: one })),
          },
        }
      },
    ],
    [
      'GET',
      /^\/git\/trees\/(\w+)$/,
      (_, [sha = '']) => {
        const tree = git.trees.get(sha)
        if (!tree) return refusal(404, 'Not Found')
        return {
          status: 200,
          body: {
            sha,
            truncated: false,
            tree: [...tree].map(([path, entry]) => ({ path, mode: '100644', ...entry })),
          },
        }
      },
    ],
    [
      'POST',
      /^\/git\/trees$/,
      ({ body }) => {
        if (!git.trees.has(body.base_tree)) return refusal(422, 'base_tree is not a valid tree oid')
        const files = git.flat(body.base_tree)
        for (const { path, sha, content } of body.tree) {
          if (sha === null && files[path] === undefined) return refusal(422, 'GitRPC::BadObjectState')
          if (sha === null) delete files[path]
          else files[path] = sha ?? git.writeBlob(content)
        }
        return { status: 201, body: { sha: git.writeTree(files), tree: [] } }
      },
    ],
    [
      'POST',
      /^\/git\/commits$/,
      ({ body }) => {
        if (!git.trees.has(body.tree)) return refusal(422, 'Tree SHA does not exist')
        return { status: 201, body: { sha: git.commit(body) } }
      },
    ],
    [
      'POST',
      /^\/git\/refs$/,
      ({ body }) => {
        const branch = body.ref.replace(/^refs\/heads\//, '')
        if (git.branches.has(branch)) return refusal(422, 'Reference already exists')
        git.branches.set(branch, body.sha)
        return { status: 201, body: { ref: body.ref, object: { sha: body.sha } } }
      },
    ],
    [
      'PATCH',
      /^\/git\/refs\/heads\/(.+)$/,
      ({ body }, [branch = '']) => {
        const before = git.branches.get(branch)
        if (before === undefined) return refusal(422, 'Reference does not exist')
        if (!body.force && !git.isAncestor(before, body.sha))
          return refusal(422, 'Update is not a fast forward')
        git.branches.set(branch, body.sha)
        return { status: 200, body: { ref: `refs/heads/${branch}`, object: { sha: body.sha } } }
      },
    ],
    [
      'DELETE',
      /^\/git\/refs\/heads\/(.+)$/,
      (_, [branch = '']) => {
        if (!git.branches.delete(branch)) return refusal(422, 'Reference does not exist')
        for (const pull of pulls) if (pull.head === branch) pull.state = 'closed'
        return { status: 204 }
      },
    ],
    [
      'GET',
      /^\/pulls$/,
      ({ url }) => {
        const [owner, branch] = (url.searchParams.get('head') ?? ':').split(':')
        const state = url.searchParams.get('state') ?? 'open'
        const found = pulls.filter(
          (one) => owner === 'acme' && one.head === branch && (state === 'all' || one.state === state),
        )
        return { status: 200, body: found.map(shown) }
      },
    ],
    [
      'POST',
      /^\/pulls$/,
      ({ body }) => {
        if (open(body.head)?.base === body.base) {
          const errors = [
            {
              resource: 'PullRequest',
              code: 'custom',
              message: `A pull request already exists for acme:${body.head}.`,
            },
          ]
          return refusal(422, 'Validation Failed', { errors })
        }
        if (!git.branches.has(body.head))
          return refusal(422, 'Validation Failed', { errors: [{ field: 'head', code: 'invalid' }] })
        if (body.body.length > 65_536)
          return refusal(422, 'Validation Failed', {
            errors: [{ message: 'body is too long (maximum is 65536 characters)' }],
          })
        const pull: Pull = {
          number: pulls.length + 1,
          state: 'open',
          title: body.title,
          body: body.body,
          head: body.head,
          base: body.base,
        }
        pulls.push(pull)
        return { status: 201, body: shown(pull) }
      },
    ],
    [
      'PATCH',
      /^\/pulls\/(\d+)$/,
      ({ body }, [number]) => {
        const pull = pulls.find((one) => one.number === Number(number))
        if (!pull) return refusal(404, 'Not Found')
        Object.assign(pull, body)
        return { status: 200, body: shown(pull) }
      },
    ],
    [
      'POST',
      /^\/issues\/(\d+)\/comments$/,
      ({ body }, [number]) => {
        comments.push({ issue: Number(number), body: body.body })
        return { status: 201, body: { id: comments.length } }
      },
    ],
    [
      'POST',
      /^\/check-runs$/,
      ({ body, headers }) => {
        if (!/ghs_/.test(headers.authorization ?? ''))
          return refusal(403, 'You must authenticate via a GitHub App.')
        checkRuns.push(structuredClone(body))
        return { status: 201, body: { id: checkRuns.length } }
      },
    ],
    [
      'PATCH',
      /^\/check-runs\/(\d+)$/,
      ({ body }, [id]) => {
        checkRuns[Number(id) - 1].output.annotations.push(...body.output.annotations)
        return { status: 200, body: { id: Number(id) } }
      },
    ],
    [
      'POST',
      /^\/statuses\/(\w+)$/,
      ({ body }, [sha]) => {
        statuses.push({ sha, ...body })
        return { status: 201, body: {} }
      },
    ],
  ]

  const server = await serveForge((asked) => {
    const { method, url, body } = asked
    const mistakes = wrongWith(method, url, body)
    wrong.push(...mistakes)
    if (mistakes.length > 0) return refusal(400, mistakes.join('; '))
    const path = asked.path.replace('/repos/acme/images', '')
    for (const [verb, pattern, respond] of routes) {
      const found = verb === method ? pattern.exec(path) : null
      if (found !== null) return respond(asked, found.slice(1))
    }
    return refusal(404, 'Not Found')
  })
  const api = `http://127.0.0.1:${server.port}`
  return {
    ...server,
    api,
    git,
    pulls,
    comments,
    checkRuns,
    statuses,
    wrong,
    [Symbol.asyncDispose]: server[Symbol.asyncDispose],
  }
}
