import { execFileSync } from 'node:child_process'
import { existsSync } from 'node:fs'

/** PyYAML, which cloud-init reads with, in the system's own Python. */
export const PYTHON = '/usr/bin/python3'

/** Why a comparison with PyYAML cannot be made here, or false. */
export const noPyYaml: string | false = (() => {
  if (!existsSync(PYTHON)) return `${PYTHON} is missing (apt-get install python3-yaml)`
  try {
    execFileSync(PYTHON, ['-c', 'import yaml'], { stdio: 'ignore' })
    return false
  } catch {
    return 'PyYAML is missing (apt-get install python3-yaml)'
  }
})()

/** What PyYAML's safe loader makes of a document; a value that JSON does not know becomes `!type text`. */
export function readWithPyYaml(document: string): unknown {
  const program = [
    'import json, sys, yaml',
    'def other(value): return "!%s %s" % (type(value).__name__, value)',
    'json.dump(yaml.safe_load(sys.stdin.buffer.read()), sys.stdout, default=other)',
  ].join('\n')
  return JSON.parse(execFileSync(PYTHON, ['-c', program], { input: document, encoding: 'utf8' }))
}
