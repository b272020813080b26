import { readFile } from 'node:fs/promises'
import { ifThere } from '../../core/if-there.ts'
import { boolean, oneOf, optional, properties, type Rules, string, verifyParameters } from './parameters.ts'
import { type PropertyFormat, parseProperties } from './property-string.ts'
import { replaceFile } from './state-file.ts'

/** Options of the whole cluster: of Proxmox's datacenter.cfg, what has to do with tags. */

const TAG = '[a-zA-Z0-9_][a-zA-Z0-9_.+-]*'
const TAGS = string({ pattern: new RegExp(`^(?:${TAG};)*${TAG}$`) })

const ACCESS_FORMAT: PropertyFormat = {
  properties: {
    'user-allow': optional(oneOf('none', 'list', 'existing', 'free')),
    'user-allow-list': optional(TAGS),
  },
}
const STYLE_FORMAT: PropertyFormat = {
  properties: {
    'case-sensitive': optional(boolean()),
    'color-map': optional(string()),
    ordering: optional(oneOf('config', 'alphabetical')),
    shape: optional(oneOf('full', 'circle', 'dense', 'none')),
  },
}

export const DATACENTER_OPTIONS: Rules = {
  'registered-tags': optional(TAGS),
  'tag-style': optional(properties(STYLE_FORMAT)),
  'user-tag-access': optional(properties(ACCESS_FORMAT)),
}

/** Which tags may be set and taken off without Sys.Modify on `/`. */
export interface TagRules {
  /** all; those of `list` and of the guests that the user sees; those of `list`; none */
  allow: 'free' | 'existing' | 'list' | 'none'
  list: readonly string[]
  /** not these, whatever else is said */
  registered: readonly string[]
}

export class Datacenter {
  readonly #file: string

  /** @param file one `name: value` a line; it may be missing, and is read anew each time, so anybody may edit it */
  constructor(file: string) {
    this.#file = file
  }

  /** Lines about other options, notes and blank lines stay as they are. */
  async change(set: Readonly<Record<string, string>>, remove: readonly string[]): Promise<void> {
    const changed = new Set([...Object.keys(set), ...remove])
    const kept = (await this.#lines()).filter((line) => !changed.has(nameIn(line)))
    const added = Object.keys(set)
      .filter((name) => !remove.includes(name))
      .map((name) => `${name}: ${set[name]}`)
    await replaceFile(this.#file, [...kept, ...added].map((line) => `${line}\n`).join(''))
  }

  async tags(): Promise<TagRules> {
    const options = await this.#read()
    const access = parseProperties(options['user-tag-access'] ?? '', ACCESS_FORMAT)
    return {
      allow: (access['user-allow'] ?? 'free') as TagRules['allow'],
      list: listOf(access['user-allow-list']),
      registered: listOf(options['registered-tags']),
    }
  }

  /** As answers have them: lists as arrays, property strings as objects. */
  async shown(): Promise<Record<string, unknown>> {
    const options = await this.#read()
    const shown: Record<string, unknown> = {}
    for (const [name, value] of Object.entries(options)) {
      if (name === 'registered-tags') shown[name] = listOf(value)
      if (name === 'tag-style') shown[name] = parseProperties(value, STYLE_FORMAT)
      if (name !== 'user-tag-access') continue
      const { 'user-allow-list': list, ...rest } = parseProperties(value, ACCESS_FORMAT)
      shown[name] = { ...rest, ...(list !== undefined && { 'user-allow-list': listOf(list) }) }
    }
    return shown
  }

  /** Name → value. Proxmox passes over lines that make no sense. */
  async #read(): Promise<Record<string, string>> {
    const found: Record<string, string> = {}
    for (const line of await this.#lines()) {
      const name = nameIn(line)
      const value = line.slice(name.length + 1).trim()
      if (isOption(name, value)) found[name] = value
    }
    return found
  }

  async #lines(): Promise<string[]> {
    const text = (await ifThere(readFile(this.#file, 'utf8'))) ?? ''
    return text === '' ? [] : text.replace(/\n$/, '').split('\n')
  }
}

/** The option that a line is about; empty where it is about none. */
const nameIn = (line: string): string => /^([a-z_-]+):/.exec(line)?.[1] ?? ''

function isOption(name: string, value: string): boolean {
  try {
    verifyParameters(DATACENTER_OPTIONS, { [name]: value })
    return true
  } catch {
    return false
  }
}

const listOf = (text = '') => text.split(';').filter((tag) => tag !== '')
