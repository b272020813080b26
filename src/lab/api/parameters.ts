import { parameterError } from './errors.ts'
import { checkFormat, type FormatName } from './formats.ts'
import { type PropertyFormat, parseProperties } from './property-string.ts'

/**
 * What a parameter may be, in the terms of Proxmox's API schema, and the check with Proxmox's texts.
 */
export interface Rule {
  type: 'string' | 'integer' | 'number' | 'boolean' | 'array'
  optional?: true
  minimum?: number
  maximum?: number
  minLength?: number
  maxLength?: number
  pattern?: RegExp
  values?: readonly string[]
  format?: FormatName
  /** the value is itself a property string */
  property?: PropertyFormat
  /** another parameter that must be there too */
  requires?: string
}

export type Rules = Record<string, Rule>
export type Value = string | number | string[]
export type Values = Record<string, Value>
/** What a request brought, before the check: form values are strings, JSON may have more. */
export type RawValues = Record<string, unknown>

type Facts = Omit<Rule, 'type' | 'optional'>

export const string = (facts: Facts = {}): Rule => ({ type: 'string', ...facts })
export const integer = (facts: Facts = {}): Rule => ({ type: 'integer', ...facts })
export const number = (facts: Facts = {}): Rule => ({ type: 'number', ...facts })
export const boolean = (facts: Facts = {}): Rule => ({ type: 'boolean', ...facts })
export const list = (): Rule => ({ type: 'array' })
export const oneOf = (...values: string[]): Rule => ({ type: 'string', values })
export const formatted = (format: FormatName, facts: Facts = {}): Rule => ({
  type: 'string',
  format,
  ...facts,
})
export const properties = (property: PropertyFormat): Rule => ({ type: 'string', property })
export const optional = (rule: Rule): Rule => ({ ...rule, optional: true })
/** All rules of a table, optional. */
export const allOptional = (rules: Rules): Rules =>
  Object.fromEntries(Object.entries(rules).map(([name, rule]) => [name, optional(rule)]))
/** `net0` … `net31` from one rule. */
export const numbered = (name: string, count: number, rule: Rule): Rules =>
  Object.fromEntries(Array.from({ length: count }, (_, index) => [`${name}${index}`, rule]))

const MISSING = 'property is missing and it is not optional'
const UNKNOWN = 'property is not defined in schema and the schema does not allow additional properties'

/** Checks all parameters of a call; booleans come out as 0 and 1, numbers as numbers. @throws ApiError 400 */
export function verifyParameters(rules: Rules, raw: RawValues): Values {
  const errors: Record<string, string> = {}
  const values = check(rules, raw, '', errors)
  if (Object.keys(errors).length > 0) throw parameterError(errors)
  return values
}

function check(rules: Rules, raw: RawValues, prefix: string, errors: Record<string, string>): Values {
  const values: Values = {}
  for (const name of Object.keys(raw)) {
    if (!(name in rules) && raw[name] !== undefined) errors[prefix + name] = UNKNOWN
  }
  for (const [name, rule] of Object.entries(rules)) {
    const given = raw[name]
    if (given === undefined || given === null) {
      if (!rule.optional) errors[prefix + name] ??= MISSING
      continue
    }
    const value = checkOne(rule, given, prefix + name, errors)
    if (value === undefined) continue
    if (rule.requires !== undefined && raw[rule.requires] === undefined) {
      errors[prefix + rule.requires] ??= `missing property - '${prefix + name}' requires this property`
    }
    values[name] = value
  }
  return values
}

function checkOne(
  rule: Rule,
  given: unknown,
  path: string,
  errors: Record<string, string>,
): Value | undefined {
  const fail = (text: string): undefined => {
    errors[path] ??= text
  }
  if (rule.type === 'array') return Array.isArray(given) ? given.map(String) : [String(given)]
  if (typeof given === 'object' && !Array.isArray(given)) {
    return fail(`type check ('${rule.type}') failed - got HASH`)
  }
  const text = Array.isArray(given)
    ? given.join(rule.format?.endsWith('-list') ? ',' : '\0')
    : typeof given === 'boolean'
      ? String(Number(given))
      : String(given)
  const wrongType = `type check ('${rule.type}') failed - got '${text}'`
  if (rule.type === 'integer' && !/^[+-]?\d+$/.test(text)) return fail(wrongType)
  if (rule.type === 'number' && !/^[+-]?\d*\.?\d+([eE][+-]?\d+)?$/.test(text)) return fail(wrongType)
  if (rule.type === 'boolean' && !/^[01]$/.test(text)) return fail(wrongType)
  const problem = checkFacts(rule, text, path)
  if (problem !== undefined) return fail(problem)
  return rule.type === 'string' ? text : Number(text)
}

function checkFacts(rule: Rule, text: string, path: string): string | undefined {
  if (rule.property) {
    const problem = checkProperties(text, rule.property, path)
    if (problem !== undefined) return `invalid format - ${problem}\n`
  }
  if (rule.format) {
    const problem = checkFormat(rule.format, text)
    if (problem !== undefined) return `invalid format - ${problem}\n`
  }
  if (rule.maxLength !== undefined && text.length > rule.maxLength) {
    return `value may only be ${rule.maxLength} characters long`
  }
  if (rule.minLength !== undefined && text.length < rule.minLength) {
    return `value must be at least ${rule.minLength} characters long`
  }
  if (rule.type === 'integer' || rule.type === 'number') {
    if (rule.minimum !== undefined && Number(text) < rule.minimum) {
      return `value must have a minimum value of ${rule.minimum}`
    }
    if (rule.maximum !== undefined && Number(text) > rule.maximum) {
      return `value must have a maximum value of ${rule.maximum}`
    }
  }
  if (rule.pattern && !rule.pattern.test(text)) return 'value does not match the regex pattern'
  if (rule.values && !rule.values.includes(text)) {
    return `value '${text}' does not have a value in the enumeration '${rule.values.join(', ')}'`
  }
  return undefined
}

/** Undefined when fine, else Proxmox's text (several lines when properties are wrong). */
export function checkProperties(text: string, format: PropertyFormat, path: string): string | undefined {
  let found: Record<string, string>
  try {
    found = parseProperties(text, format)
  } catch (error) {
    return (error as Error).message
  }
  const errors: Record<string, string> = {}
  check(format.properties, found, `${path}.`, errors)
  const lines = Object.entries(errors).map(([key, problem]) => `${key}: ${problem}`)
  return lines.length > 0 ? ['format error', ...lines].join('\n') : undefined
}
