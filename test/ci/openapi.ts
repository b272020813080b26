import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { Ajv, type ValidateFunction } from 'ajv'

/** GitHub's published description of its API, as far as requests need it. */
interface Description {
  paths: Record<string, Record<string, Operation> & { parameters?: Parameter[] }>
  components: Record<string, Record<string, unknown>>
}

interface Operation {
  parameters?: (Parameter | { $ref: string })[]
  requestBody?: { required?: boolean; content: Record<string, { schema: Schema }> }
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

const file = createRequire(import.meta.url).resolve('@octokit/openapi/generated/api.github.com.json')
let description: Description | undefined
const ajv = new Ajv({ strict: false, validateFormats: false, coerceTypes: true })
const compiled = new Map<Schema, ValidateFunction>()

/** Sentences for all in which a request is not what GitHub describes. */
export function wrongWith(method: string, url: URL, body: unknown): string[] {
  description ??= JSON.parse(readFileSync(file, 'utf8')) as Description
  const path = Object.keys(description.paths).find((one) => matches(one, url.pathname))
  const operation = path && description.paths[path]?.[method.toLowerCase()]
  if (!operation) return [`GitHub describes no ${method} ${url.pathname}`]
  return [...wrongQuery(operation, url), ...wrongBody(operation, body)].map(
    (wrong) => `${method} ${path}: ${wrong}`,
  )
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
    validate = ajv.compile({ ...schema, components: componentsOf(schema) })
    compiled.set(schema, validate)
  }
  return validate({ value }.value) ? [] : [ajv.errorsText(validate.errors)]
}

/** What a schema refers to, so that the 13 megabytes around it need not be compiled. */
function componentsOf(schema: unknown, found: Description['components'] = {}): Description['components'] {
  for (const [, ref = ''] of JSON.stringify(schema).matchAll(/"\$ref":"(#\/components\/[^"]+)"/g)) {
    const [, , kind = '', name = ''] = ref.split('/')
    if (found[kind]?.[name] !== undefined) continue
    found[kind] = { ...found[kind], [name]: lookUp(ref) }
    componentsOf(found[kind][name], found)
  }
  return found
}

function lookUp(ref: string): unknown {
  const [, , kind = '', name = ''] = ref.split('/')
  return description?.components[kind]?.[name]
}
