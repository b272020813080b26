import { type Answered, type Asked, serveForge } from './forge-server.ts'
import { wrongWith } from './forgejo-fields.ts'
import { GitStore } from './git-store.ts'

interface Pull {
  number: number
  state: 'open' | 'closed'
  title: string
  body: string
  head: string
  base: string
  /** not 1 for a pull request from a fork */
  repo: number
}

interface Operation {
  operation: 'create' | 'update' | 'delete'
  path: string
  content?: string
  sha?: string
}

/** The largest page that this Forgejo gives, as its administrator may set it: a client that asks for more gets this. */
const PAGE = 2

const refusal = (status: number, message: string): Answered => ({
  status,
  body: { message, url: 'https://forgejo.test/api/swagger' },
})

/** Forgejo for one repository `acme/images`, with state; what is not documented is remembered in `wrong`, and refused. */
export async function serveForgejo(certificate?: { key: string; cert: string }) {
  const git = new GitStore()
  const pulls: Pull[] = []
  const comments: { issue: number; body: string }[] = []
  const statuses: Record<string, unknown>[] = []
  const wrong: string[] = []

  const shown = (pull: Pull) => {
    const [head = '', base = ''] = [git.branches.get(pull.head), git.branches.get(pull.base)]
    return {
      ...pull,
      html_url: `https://forgejo.test/acme/images/pulls/${pull.number}`,
      merge_base: git.mergeBase(base, head),
      head: { ref: pull.head, sha: head, repo_id: pull.repo },
      base: { ref: pull.base, sha: base, repo_id: 1 },
    }
  }
  const page = (all: unknown[], { url }: Asked): Answered => {
    const size = Math.min(PAGE, Number(url.searchParams.get('limit') ?? PAGE))
    const from = (Number(url.searchParams.get('page')) - 1) * size
    return { status: 200, body: all.slice(from, from + size) }
  }
  const blobs = (ref: string) => git.flat(git.commits.get(git.branches.get(ref) ?? ref)?.tree ?? '')
  const change = (branch: string, message: string, operations: Operation[], onto: string): Answered => {
    const files = blobs(branch)
    for (const { operation, path, content, sha } of operations) {
      const present = files[path]
      if (operation === 'create' && present !== undefined)
        return refusal(422, `repository file already exists [path: ${path}]`)
      if (operation !== 'create' && present === undefined)
        return refusal(404, `object does not exist [id: , rel_path: ${path}]`)
      if (operation !== 'create' && sha !== present)
        return refusal(409, `sha does not match [given: ${sha}, expected: ${present}]`)
      if (operation === 'delete') delete files[path]
      else files[path] = git.writeBlob(Buffer.from(content ?? '', 'base64').toString())
    }
    const sha = git.commit({ tree: git.writeTree(files), parents: [git.branches.get(branch) ?? ''], message })
    git.branches.set(onto, sha)
    return { status: 201, body: { commit: { sha }, files: [] } }
  }
  const changed = (pull: Pull) => {
    const { merge_base, head } = shown(pull)
    const [before, after] = [blobs(merge_base), blobs(head.sha)]
    return [...new Set([...Object.keys(before), ...Object.keys(after)])].filter(
      (path) => before[path] !== after[path],
    )
  }
  /** A merge of the base into the head, which conflicts where both changed the same file in different ways. */
  const update = (pull: Pull): Answered => {
    const { merge_base, head, base } = shown(pull)
    const [then, ours, theirs] = [blobs(merge_base), blobs(head.sha), blobs(base.sha)]
    const paths = Object.keys({ ...then, ...ours, ...theirs })
    if (
      paths.some(
        (path) => ours[path] !== theirs[path] && ours[path] !== then[path] && theirs[path] !== then[path],
      )
    )
      return refusal(409, 'merge failed because of conflict')
    const merged = paths.flatMap((path) => {
      const blob = ours[path] === then[path] ? theirs[path] : ours[path]
      return blob === undefined ? [] : [[path, blob]]
    })
    const tree = git.writeTree(Object.fromEntries(merged))
    const message = `Merge branch '${pull.base}' into ${pull.head}`
    git.branches.set(pull.head, git.commit({ tree, parents: [head.sha, base.sha], message }))
    return { status: 200 }
  }
  const numbered = (number: string | undefined) => pulls.find((one) => one.number === Number(number)) as Pull

  const routes: [string, RegExp, (asked: Asked, found: string[]) => Answered][] = [
    ['GET', /^$/, () => ({ status: 200, body: { full_name: 'acme/images', default_branch: 'main' } })],
    [
      'GET',
      /^\/branches\/(.+)$/,
      (_, [name = '']) => {
        const commit = git.commits.get(git.branches.get(name) ?? '')
        return commit
          ? { status: 200, body: { name, commit: { id: commit.sha } } }
          : refusal(404, 'branch does not exist')
      },
    ],
    [
      'GET',
      /^\/commits$/,
      (asked) => {
        const { sha = '', not = '' } = Object.fromEntries(asked.url.searchParams)
        const [head, base] = [git.branches.get(sha), git.branches.get(not)]
        if (head === undefined || base === undefined) return refusal(404, 'object does not exist')
        const listed = [...git.commits.values()].filter(
          (commit) => git.isAncestor(commit.sha, head) && !git.isAncestor(commit.sha, base),
        )
        const shownAs = listed.reverse().map(({ sha, message, parents }) => ({
          ...{ sha, commit: { message }, parents: parents.map((parent) => ({ sha: parent })) },
        }))
        return page(shownAs, asked)
      },
    ],
    [
      'DELETE',
      /^\/branches\/(.+)$/,
      (_, [name = '']) => {
        for (const pull of pulls) if (pull.head === name) pull.state = 'closed'
        return git.branches.delete(name) ? { status: 204 } : refusal(404, 'branch does not exist')
      },
    ],
    [
      'GET',
      /^\/contents\/(.+)$/,
      ({ url }, [path = '']) => {
        const sha = blobs(url.searchParams.get('ref') ?? 'main')[path]
        if (sha === undefined) return refusal(404, 'object does not exist')
        const content = Buffer.from(git.blobs.get(sha) ?? '').toString('base64')
        return { status: 200, body: { path, sha, type: 'file', encoding: 'base64', content } }
      },
    ],
    [
      'POST',
      /^\/contents$/,
      ({ body }) => {
        if (!git.branches.has(body.branch))
          return refusal(404, `branch does not exist [name: ${body.branch}]`)
        if (body.new_branch && git.branches.has(body.new_branch))
          return refusal(409, `branch already exists [name: ${body.new_branch}]`)
        return change(body.branch, body.message, body.files, body.new_branch ?? body.branch)
      },
    ],
    [
      'GET',
      /^\/pulls$/,
      (asked) =>
        page(pulls.filter(({ state }) => state === asked.url.searchParams.get('state')).map(shown), asked),
    ],
    [
      'POST',
      /^\/pulls$/,
      ({ body }) => {
        if (
          pulls.some(
            (one) =>
              one.state === 'open' && one.head === body.head && one.base === body.base && one.repo === 1,
          )
        )
          return refusal(409, 'pull request already exists for these targets')
        const pull: Pull = { number: pulls.length + 1, state: 'open', repo: 1, ...body }
        pulls.push(pull)
        return { status: 201, body: shown(pull) }
      },
    ],
    [
      'PATCH',
      /^\/pulls\/(\d+)$/,
      ({ body }, [number]) => ({ status: 201, body: shown(Object.assign(numbered(number), body)) }),
    ],
    [
      'GET',
      /^\/pulls\/(\d+)\/files$/,
      (asked, [number]) =>
        page(
          changed(numbered(number)).map((filename) => ({ filename })),
          asked,
        ),
    ],
    ['POST', /^\/pulls\/(\d+)\/update$/, (_, [number]) => update(numbered(number))],
    [
      'POST',
      /^\/issues\/(\d+)\/comments$/,
      ({ body }, [issue]) => {
        comments.push({ issue: Number(issue), body: body.body })
        return { status: 201, body: {} }
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
    const path = asked.path.replace('/api/v1/repos/acme/images', '')
    const mistakes = wrongWith(method, path, url.searchParams, body)
    wrong.push(...mistakes)
    if (mistakes.length > 0) return refusal(400, mistakes.join('; '))
    for (const [verb, pattern, respond] of routes) {
      const found = verb === method ? pattern.exec(path) : null
      if (found !== null) return respond(asked, found.slice(1))
    }
    return refusal(404, 'not found')
  }, certificate)
  const api = `${certificate ? 'https' : 'http'}://127.0.0.1:${server.port}/api/v1`
  return {
    ...server,
    api,
    git,
    pulls,
    comments,
    statuses,
    wrong,
    [Symbol.asyncDispose]: server[Symbol.asyncDispose],
  }
}
