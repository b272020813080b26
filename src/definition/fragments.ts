import { join } from 'node:path'
import type { Diagnostic } from './diagnostics.ts'
import type { Fragment } from './spec.ts'
import { type Path, YamlFile } from './yaml-file.ts'

/** One cloud-config fragment, or what is wrong with it. */
export interface LoadedFragment {
  fragment?: Fragment
  diagnostics: Diagnostic[]
}

/**
 * Reads cloud-init/<name>.yaml the way cloud-init would (YAML 1.1).
 * Secrets are refused: the seed is a disk that anybody with access to the storage can read.
 */
export function loadFragment(folder: string, name: string): LoadedFragment {
  const file = join(folder, `${name}.yaml`)
  const yaml = YamlFile.read(file, '1.1')
  if (yaml.diagnostics.length > 0) return { diagnostics: [...yaml.diagnostics] }
  const { firstLine } = yaml
  const top = { line: 1, column: 1, endLine: 1, endColumn: 1 + firstLine.length }
  if (firstLine.startsWith('## template:')) {
    return {
      diagnostics: [yaml.diagnostic(top, 'a fragment cannot be a Jinja template: it is merged with others')],
    }
  }
  if (/^#(?!cloud-config\s*$)[a-z]/.test(firstLine)) {
    return {
      diagnostics: [
        yaml.diagnostic(top, 'only #cloud-config can be merged', 'put scripts into a shell layer'),
      ],
    }
  }
  if (!isMap(yaml.value)) {
    return { diagnostics: [yaml.diagnostic(yaml.at([]), 'a fragment must be a map of cloud-config modules')] }
  }
  const diagnostics: Diagnostic[] = []
  inspect(yaml.value, [], yaml, diagnostics)
  const { line, column } = yaml.at([])
  return { fragment: { name, config: yaml.value, where: { file, line, column } }, diagnostics }
}

/** A reference to a secret; `file:///…` is a URL, which cloud-config may well contain. */
const SECRET = /^(env:[A-Za-z_]\w*$|cmd:.|file:(?!\/\/).)/s

/** PyYAML takes digits with colons for a number of base 60. */
const SEXAGESIMAL = /^[-+]?[1-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?$/

function inspect(value: unknown, path: Path, yaml: YamlFile, found: Diagnostic[]): void {
  const report = (message: string, hint: string) => found.push(yaml.diagnostic(yaml.at(path), message, hint))
  if (Array.isArray(value)) {
    for (const [index, item] of value.entries()) inspect(item, [...path, index], yaml, found)
  } else if (isMap(value)) {
    for (const [key, item] of Object.entries(value)) inspect(item, [...path, key], yaml, found)
  } else if (typeof value === 'string' && SECRET.test(value)) {
    report(
      'a secret cannot go through cloud-init: its seed can be read by everyone on the storage and in the guest',
      'give it to a shell layer of the image instead, in `env`',
    )
  } else if (typeof value === 'number' && SEXAGESIMAL.test(yaml.source(path) ?? '')) {
    report(`cloud-init reads this as the number ${value}`, `put it in quotes: '${yaml.source(path)}'`)
  } else if (typeof value === 'object' && value !== null) {
    report(
      'cloud-init would not read this as text',
      'put it in quotes; for binary content use `encoding: b64`',
    )
  }
}

function isMap(value: unknown): value is Record<string, unknown> {
  if (typeof value !== 'object' || value === null) return false
  const prototype = Object.getPrototypeOf(value)
  return prototype === Object.prototype || prototype === null
}
