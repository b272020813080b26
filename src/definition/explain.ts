import type { z } from 'zod'
import { suggest } from '../core/did-you-mean.ts'
import type { Diagnostic } from './diagnostics.ts'
import { NO_REFERENCE } from './formats.ts'
import { namesSecret } from './literal-secrets.ts'
import { asList, asMap, didYouMean } from './meant.ts'
import type { Path, YamlFile } from './yaml-file.ts'

type Issue = z.core.$ZodIssue

/**
 * Checks a file's value against a schema.
 * @returns the parsed value, or undefined and what is wrong, each mistake at its place and in plain words
 */
export function check<Schema extends z.ZodType>(
  schema: Schema,
  file: YamlFile,
  { whereElse = () => undefined, once = false }: CheckOptions = {},
): { value?: z.output<Schema>; diagnostics: Diagnostic[] } {
  // Which keys a map may have is known to the schema that refuses one, and to nobody else.
  const knownKeys = new WeakMap<object, readonly string[]>()
  const result = schema.safeParse(file.value, {
    reportInput: true,
    jitless: once,
    error: (issue) => {
      const shape = (issue.inst as { _zod?: { def?: { shape?: object } } } | undefined)?._zod?.def?.shape
      if (issue.code === 'unrecognized_keys' && shape) {
        knownKeys.set(issue.input as object, Object.keys(shape))
      }
      return undefined
    },
  })
  if (result.success) return { value: result.data, diagnostics: [] }
  // First of all, since each frame shows the lines around a mistake, too.
  for (const issue of result.error.issues) if (isSecret(issue)) file.hide(issue.path as Path)
  return {
    diagnostics: result.error.issues.flatMap((issue) => explain(issue, [], { file, knownKeys, whereElse })),
  }
}

type WhereElse = (path: Path, key: string) => string | undefined

interface CheckOptions {
  /** why an unknown key is known elsewhere: `only means something with …` */
  whereElse?: WhereElse
  /** no second file is read by this schema: compiling a parser for each of its maps costs more than reading by them saves */
  once?: boolean
}

interface Context {
  file: YamlFile
  knownKeys: WeakMap<object, readonly string[]>
  whereElse: WhereElse
}

function explain(issue: Issue, prefix: Path, context: Context): Diagnostic[] {
  const { file, knownKeys, whereElse } = context
  const path = [...prefix, ...(issue.path as Path)]
  if (issue.code === 'unrecognized_keys') {
    const known = knownKeys.get(issue.input as object) ?? []
    return issue.keys.map((key) => {
      const place = file.keyAt([...path, key])
      const why = whereElse(path, key)
      return why === undefined
        ? file.diagnostic(place, `unknown key \`${key}\``, hintForKey(key, known))
        : file.diagnostic(place, `\`${key}\` ${why}`)
    })
  }
  if (issue.code === 'invalid_union') {
    const branch = bestBranch(issue.errors)
    if (branch) return branch.flatMap((inner) => explain(inner, path, context))
  }
  if (issue.code === 'invalid_key') {
    const message = issue.issues[0]?.message ?? 'is not allowed here'
    return [file.diagnostic(file.keyAt(path), `the name \`${String(path.at(-1))}\` ${message}`)]
  }
  if (issue.code === 'custom') {
    const isKey = issue.params?.place === 'key'
    const span = !isKey ? file.at(path) : issue.path.length > 0 ? file.keyAt(path) : file.holderAt(path)
    return [file.diagnostic(span, `${subject(path)} ${issue.message}`)]
  }
  const wanted = requirement(issue)
  if (!file.has(path)) {
    const holder = path.slice(0, -1)
    const choices = 'options' in issue && issue.options ? `: ${issue.options.join(' or ')}` : ''
    const message = `${subject(holder)} needs \`${String(path.at(-1))}\`${choices}`
    return [file.diagnostic(file.holderAt(holder), message)]
  }
  if (issue.input === null) {
    return [file.diagnostic(file.at(path), `${subject(path)} is empty: it ${wanted}`)]
  }
  const shown = notThat(issue, path, file)
  return [
    file.diagnostic(file.at(path), `${subject(path)} ${wanted}${shown}`, hintForValue(issue, path, file)),
  ]
}

/** The nearest key by name: `cores`, an item of `packages`, this file. */
function subject(path: Path): string {
  const last = path.at(-1)
  if (last === undefined) return 'this file'
  if (typeof last === 'string') return `\`${last}\``
  const list = path.findLast((segment) => typeof segment === 'string')
  return list === undefined ? 'an item' : `an item of \`${list}\``
}

/** Of the ways a value may be written, the one that the user was most likely at: right type, fewest mistakes. */
function bestBranch(branches: readonly Issue[][]): Issue[] | undefined {
  return branches
    .filter((issues) => !issues.some((issue) => issue.path.length === 0 && isWrongType(issue)))
    .sort((a, b) => a.length - b.length)[0]
}

function isWrongType(issue: Issue): boolean {
  return issue.code === 'invalid_type' || issue.code === 'invalid_value'
}

const TYPE_WORDS: Record<string, string> = {
  string: 'text',
  number: 'a number',
  int: 'a whole number',
  boolean: 'true or false',
  array: 'a list',
  object: 'a map',
  record: 'a map',
}

function requirement(issue: Issue): string {
  switch (issue.code) {
    case 'invalid_type':
      return `needs ${TYPE_WORDS[issue.expected] ?? issue.expected}`
    case 'invalid_value':
      return issue.values.length === 1
        ? `must be ${String(issue.values[0])}`
        : `must be one of ${issue.values.join(', ')}`
    case 'too_small':
      if (issue.origin === 'string') return 'must not be empty'
      if (issue.origin === 'array') return 'needs at least one item'
      return `must be at least ${issue.minimum}`
    case 'too_big':
      return issue.origin === 'string'
        ? `must have at most ${issue.maximum} characters`
        : `must be at most ${issue.maximum}`
    case 'invalid_union': {
      if ('options' in issue && issue.options) return `must be one of ${issue.options.join(', ')}`
      const ways = issue.errors.flat().flatMap((inner) => {
        if (inner.code === 'invalid_type') return [TYPE_WORDS[inner.expected] ?? inner.expected]
        return inner.code === 'invalid_value' ? inner.values.map((value) => `\`${String(value)}\``) : []
      })
      return `needs ${[...new Set(ways)].join(' or ')}`
    }
    default:
      return issue.message
  }
}

/** `, not …`: the type where that is wrong, else the value as it was typed. */
function notThat(issue: Issue, path: Path, file: YamlFile): string {
  // A wrong discriminator is an issue of the map around it.
  const input = 'discriminator' in issue ? file.source(path) : issue.input
  if (Array.isArray(input)) return issue.code === 'too_small' ? '' : ', not a list'
  if (typeof input === 'object') return ', not a map'
  const typed = file.source(path) ?? String(input)
  if (
    typed === '' ||
    isSecret(issue) ||
    path.some((segment) => typeof segment === 'string' && namesSecret(segment))
  )
    return ''
  if (issue.code === 'invalid_type' && typeof input === 'string') return ', not text'
  if (issue.code === 'invalid_type' && typeof input === 'number' && issue.expected !== 'int') {
    return ', not a number'
  }
  return `, not \`${typed.length > 60 ? `${typed.slice(0, 57)}…` : typed}\``
}

function isSecret(issue: Issue): boolean {
  return issue.code === 'invalid_format' && issue.message === NO_REFERENCE
}

function hintForKey(key: string, known: readonly string[]): string | undefined {
  if (key === '<<') return 'merge keys are no part of YAML 1.2: write the keys out'
  return suggest(key, known)
}

function hintForValue(issue: Issue, path: Path, file: YamlFile): string | undefined {
  const typed = file.source(path) ?? ''
  const key = String(path.findLast((segment) => typeof segment === 'string'))
  if (issue.code === 'invalid_value') return didYouMean(key, typed, issue.values.map(String))
  if (issue.code === 'invalid_union' && 'options' in issue) {
    return didYouMean(key, typed, (issue.options ?? []).map(String))
  }
  if (issue.code === 'invalid_union') {
    const words = issue.errors.flat().flatMap((inner) => (inner.code === 'invalid_value' ? inner.values : []))
    const guess = didYouMean(key, typed, words.map(String))
    if (guess !== undefined) return guess
  }
  const wanted = requirement(issue)
  if (/\btrue\b/.test(wanted) && /^(yes|no|on|off)$/i.test(typed)) return 'YAML 1.2 knows true and false'
  if (wanted.includes('a list') && typed !== '') return asList(key, typed)
  if (issue.code !== 'invalid_type') return undefined
  if (issue.expected === 'record' && Array.isArray(issue.input)) return asMap(key, issue.input)
  const example = EXAMPLES[key]
  if (example !== undefined) return example
  if (issue.expected === 'string' && typed !== '') return `put it in quotes: '${typed}'`
  if (['number', 'int'].includes(issue.expected) && /^\d+$/.test(typed)) return 'take off the quotes'
  return undefined
}

/** How to write what people often write in another way. */
const EXAMPLES: Readonly<Record<string, string>> = {
  source: 'such as: source: { release: debian/13 }',
  memory: 'in MiB: memory: 2048',
  disk: 'with a unit: disk: 8G',
  rootfs: 'with a unit: rootfs: 8G',
  maxAge: 'with a unit: maxAge: 30d',
  swap: 'in MiB: swap: 512',
  provision: 'a list of layers: - packages: [curl], - shell: ldconfig, - reboot: true, …',
}
