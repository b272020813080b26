/**
 * What the API documentation of Forgejo (its /api/swagger, v1) says of the requests that are sent here, in own words. Gitea's
 * says the same of these. Path parameters that take the rest of a path are written `{rest}`.
 */
interface Documented {
  query?: Record<string, 'text' | 'number' | readonly string[]>
  body?: Fields
}

interface Fields {
  required: readonly string[]
  fields: Record<string, 'text' | readonly string[] | { each: Fields }>
}

const pull: Fields['fields'] = { title: 'text', body: 'text', base: 'text' }

const BOOLEAN = ['true', 'false'] as const

export const DOCUMENTED: Record<string, Documented> = {
  // the repository itself
  'GET ': {},
  'GET /branches/{rest}': {},
  'DELETE /branches/{rest}': {},
  // `sha`: where the list begins; what `not` has is left out
  'GET /commits': {
    query: {
      ...{ sha: 'text', not: 'text', page: 'number', limit: 'number' },
      ...{ stat: BOOLEAN, verification: BOOLEAN, files: BOOLEAN },
    },
  },
  // `ref`: a commit, branch or tag
  'GET /contents/{rest}': { query: { ref: 'text' } },
  // ChangeFilesOptions: several files in one commit
  'POST /contents': {
    body: {
      required: ['files'],
      fields: {
        message: 'text',
        branch: 'text',
        new_branch: 'text',
        files: {
          each: {
            required: ['operation', 'path'],
            // `content` is base64; `sha` is required to update and to delete
            fields: { operation: ['create', 'update', 'delete'], path: 'text', content: 'text', sha: 'text' },
          },
        },
      },
    },
  },
  'GET /pulls': { query: { state: ['open', 'closed', 'all'], page: 'number', limit: 'number' } },
  'POST /pulls': { body: { required: ['head', 'base', 'title'], fields: { ...pull, head: 'text' } } },
  'PATCH /pulls/{index}': { body: { required: [], fields: { ...pull, state: ['open', 'closed'] } } },
  'GET /pulls/{index}/files': { query: { page: 'number', limit: 'number' } },
  'POST /pulls/{index}/update': { query: { style: ['merge', 'rebase'] } },
  'POST /issues/{index}/comments': { body: { required: ['body'], fields: { body: 'text' } } },
  'POST /statuses/{sha}': {
    body: {
      required: [],
      fields: {
        context: 'text',
        description: 'text',
        target_url: 'text',
        state: ['pending', 'success', 'error', 'failure', 'warning'],
      },
    },
  },
}

/** Sentences for all in which a request is not what is documented. */
export function wrongWith(method: string, path: string, query: URLSearchParams, body: unknown): string[] {
  const name = Object.keys(DOCUMENTED).find((one) => matches(one, `${method} ${path}`))
  const documented = name && DOCUMENTED[name]
  if (!documented) return [`there is no ${method} ${path}`]
  const wrong = [...query].flatMap(([key, value]) => {
    const type = documented.query?.[key]
    if (type === undefined) return [`no query parameter ${key}`]
    return type === 'number'
      ? /^\d+$/.test(value)
        ? []
        : [`${key} is no number`]
      : wrongText(key, value, type)
  })
  if (documented.body !== undefined) wrong.push(...wrongFields(documented.body, body))
  else if (body !== undefined) wrong.push('takes no body')
  return wrong.map((one) => `${name}: ${one}`)
}

function matches(template: string, request: string): boolean {
  return new RegExp(`^${template.replace('{rest}', '.+').replace(/\{\w+\}/, '[^/]+')}$`).test(request)
}

function wrongFields({ required, fields }: Fields, value: unknown): string[] {
  if (typeof value !== 'object' || value === null) return ['needs an object']
  const missing = required.filter((name) => !(name in value)).map((name) => `lacks ${name}`)
  const wrong = Object.entries(value).flatMap(([name, one]) => {
    const type = fields[name]
    if (type === undefined) return [`no field ${name}`]
    if (typeof type === 'object' && 'each' in type)
      return Array.isArray(one) ? one.flatMap((each) => wrongFields(type.each, each)) : [`${name} is no list`]
    return wrongText(name, one, type)
  })
  return [...missing, ...wrong]
}

function wrongText(name: string, value: unknown, type: 'text' | readonly string[]): string[] {
  if (typeof value !== 'string') return [`${name} is no text`]
  return type === 'text' || type.includes(value) ? [] : [`${name} is none of ${type.join(', ')}`]
}
