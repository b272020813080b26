import { Ajv, type ValidateFunction } from 'ajv'
import { githubDescription } from './github-description.ts'

/** GitHub's published description of its API, as far as requests need it. */
interface Description {
  paths: Record<string, Record<string, Operation> & { parameters?: Parameter[] }>
  components: Record<string, Record<string, unknown>>
}

interface Operation {
  parameters?: (Parameter | { $ref: string })[]
  requestBody?: { required?: boolean; content: Record<string, { schema: Schema }> }
  responses?: unknown
}

interface Parameter {
  name: string
  in: 'query' | 'path' | 'header'
  required?: boolean
  schema: Schema
}

type Schema = Record<string, unknown> & {
  properties?: Record<string, Schema>
  items?: Schema
  oneOf?: Schema[]
}

/** What imagebuild asks GitHub for: of 13 megabytes no more is kept in memory. */
const USED = /^\/repos\/\{owner\}\/\{repo\}(\/(git|contents|pulls|issues|check-runs|statuses)\b|$)/

const description = usedOf(JSON.parse(await githubDescription()))
const ajv = new Ajv({ strict: false, validateFormats: false, coerceTypes: true })
const compiled = new Map<Schema, ValidateFunction>()

/** Sentences for all in which a request is not what GitHub describes. */
export function wrongWith(method: string, url: URL, body: unknown): string[] {
  const path = Object.keys(description.paths).find((one) => matches(one, url.pathname))
  const operation = path && description.paths[path]?.[method.toLowerCase()]
  if (!operation)
    return [`GitHub describes no ${method} ${url.pathname}, or test/ci/openapi.ts leaves it out`]
  return [...wrongQuery(operation, url), ...wrongBody(operation, body)].map(
    (wrong) => `${method} ${path}: ${wrong}`,
  )
}

/** The paths that are used, without their answers, and what they refer to. */
function usedOf({ paths, components }: Description): Description {
  const used = Object.entries(paths).filter(([path]) => USED.test(path))
  for (const [, operations] of used)
    for (const operation of Object.values(operations))
      if (!Array.isArray(operation)) delete operation.responses
  return { paths: Object.fromEntries(used), components: componentsOf(used, components) }
}

/** `{ref}` of the Git data API takes slashes, the others do not. */
function matches(template: string, path: string): boolean {
  const pattern = template.replace(/\{(\w+)\}/g, (_, name) => (name === 'ref' ? '.+' : '[^/]+'))
  return new RegExp(`^${pattern}$`).test(path)
}

function wrongQuery(operation: Operation, url: URL): string[] {
  const known = (operation.parameters ?? []).map((one) =>
    '$ref' in one ? (lookUp(one.$ref) as Parameter) : one,
  )
  return [...url.searchParams].flatMap(([name, value]) => {
    const parameter = known.find((one) => one.in === 'query' && one.name === name)
    if (parameter === undefined) return [`no query parameter ${name}`]
    return failures(parameter.schema, value).map((wrong) => `${name}: ${wrong}`)
  })
}

function wrongBody(operation: Operation, body: unknown): string[] {
  const schema = operation.requestBody?.content['application/json']?.schema
  if (schema === undefined) return body === undefined ? [] : ['takes no body']
  if (body === undefined) return operation.requestBody?.required ? ['needs a body'] : []
  // Types are judged as they are sent.
  const copy = structuredClone(body)
  const wrong = failures(schema, copy)
  if (JSON.stringify(copy) !== JSON.stringify(body)) wrong.push('a value has another type than is described')
  return [...wrong, ...unknownIn(schema, body, '')]
}

/** JSON Schema lets unknown properties pass; GitHub ignores them, so that a misspelt one would do nothing. */
function unknownIn(schema: Schema, value: unknown, at: string): string[] {
  if (Array.isArray(value))
    return schema.items ? value.flatMap((one) => unknownIn(schema.items as Schema, one, `${at}[]`)) : []
  if (typeof value !== 'object' || value === null || schema.properties === undefined) return []
  return Object.entries(value).flatMap(([name, one]) => {
    const property = schema.properties?.[name]
    return property ? unknownIn(property, one, `${at}/${name}`) : [`no property ${at}/${name}`]
  })
}

function failures(schema: Schema, value: unknown): string[] {
  let validate = compiled.get(schema)
  if (validate === undefined) {
    validate = ajv.compile({ ...schema, components: componentsOf(schema, description.components) })
    compiled.set(schema, validate)
  }
  return validate({ value }.value) ? [] : [ajv.errorsText(validate.errors)]
}

type Components = Description['components']

/** What something refers to, so that what is around it need not be kept, or compiled. */
function componentsOf(something: unknown, all: Components, found: Components = {}): Components {
  for (const [, ref = ''] of JSON.stringify(something).matchAll(/"\$ref":"(#\/components\/[^"]+)"/g)) {
    const [, , kind = '', name = ''] = ref.split('/')
    if (found[kind]?.[name] !== undefined) continue
    found[kind] = { ...found[kind], [name]: all[kind]?.[name] }
    componentsOf(found[kind][name], all, found)
  }
  return found
}

function lookUp(ref: string): unknown {
  const [, , kind = '', name = ''] = ref.split('/')
  return description.components[kind]?.[name]
}
