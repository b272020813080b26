import type { z } from 'zod'

/**
 * Rules between the keys of one map. Each is written once and used twice: to check what the loader read, and
 * as JSON Schema for editors, where zod's own refinements would be lost.
 */
export interface Rule {
  /** what is wrong with the map; `key` is the key to point at, else it is the map as a whole */
  check(value: Record<string, unknown>): { key?: string; message: string }[]
  json: Record<string, unknown>
}

const rulesOf = new WeakMap<z.core.$ZodType, readonly Rule[]>()

/** The JSON Schema of the rules that `schema` was made with. */
export function jsonOfRules(schema: z.core.$ZodType): Record<string, unknown>[] {
  return (rulesOf.get(schema) ?? []).map((rule) => rule.json)
}

/** Adds rules to a map. They are checked even where a key of the map is wrong: all mistakes are told at once. */
export function withRules<Schema extends z.ZodObject>(schema: Schema, ...rules: Rule[]): Schema {
  const checked = schema.superRefine(
    (value, context) => {
      for (const rule of rules) {
        for (const { key, message } of rule.check(value)) {
          const params = { place: 'key' }
          context.addIssue({ code: 'custom', message, params, ...(key !== undefined && { path: [key] }) })
        }
      }
    },
    { when: ({ value }) => typeof value === 'object' && value !== null && !Array.isArray(value) },
  )
  rulesOf.set(checked, rules)
  return checked
}

/** One of `keys` must be there, and only one. `why` ends the message where there are two. */
export function exactlyOne(keys: readonly string[], why: string): Rule {
  return {
    check(value) {
      const [first, ...others] = keys.filter((key) => value[key] !== undefined)
      if (first === undefined) return [{ message: `needs one of ${listed(keys)}` }]
      return others.map((key) => ({ key, message: `cannot stand beside \`${first}\`: ${why}` }))
    },
    json: { oneOf: keys.map((key) => ({ required: [key] })) },
  }
}

/** `one` and `other` exclude each other. */
export function notBoth(one: string, other: string, why: string): Rule {
  return {
    check: (value) =>
      value[one] !== undefined && value[other] !== undefined
        ? [{ key: other, message: `cannot stand beside \`${one}\`: ${why}` }]
        : [],
    json: { not: { required: [one, other] } },
  }
}

/** `key` needs `other` beside it. */
export function needs(key: string, other: string): Rule {
  return {
    check: (value) =>
      value[key] !== undefined && value[other] === undefined
        ? [{ key, message: `needs \`${other}\` beside it` }]
        : [],
    json: { dependencies: { [key]: [other] } },
  }
}

/** `key` says something about `owner`, and nothing without it. */
export function onlyBeside(key: string, owner: string): Rule {
  return {
    check: (value) =>
      value[key] !== undefined && value[owner] === undefined
        ? [{ key, message: `only means something beside \`${owner}\`` }]
        : [],
    json: { dependencies: { [key]: [owner] } },
  }
}

/** `key` is there only where `other` has the value `wanted`. */
export function onlyWhere(key: string, other: string, wanted: string): Rule {
  return {
    check: (value) =>
      value[key] !== undefined && value[other] !== wanted
        ? [{ key, message: `only means something with \`${other}: ${wanted}\`` }]
        : [],
    json: {
      if: { required: [key] },
      // biome-ignore lint/suspicious/noThenProperty: the keyword of JSON Schema
      then: { required: [other], properties: { [other]: { const: wanted } } },
    },
  }
}

function listed(keys: readonly string[]): string {
  return keys.length === 1 ? `${keys[0]}` : `${keys.slice(0, -1).join(', ')} or ${keys.at(-1)}`
}
