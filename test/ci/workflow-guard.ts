import type { Command } from 'commander'
import { parse } from 'yaml'
import type { Invocation } from '../../src/cli/invocation.ts'
import { createProgram } from '../../src/cli/program.ts'
import { SecretRegistry } from '../../src/core/secrets.ts'

/** What a ready-made workflow must not do, and what of it the program does not know. */

interface Step {
  uses?: string
  run?: string
  with?: Record<string, unknown>
  env?: unknown
}

interface Job {
  steps?: Step[]
  permissions?: unknown
  environment?: unknown
  'runs-on'?: unknown
}

interface Workflow {
  on: Record<string, unknown>
  permissions?: unknown
  jobs: Record<string, Job>
}

/** All that strangers may have run, and only where GitHub throws the machine away afterwards. */
const FOR_STRANGERS = /^(validate|fmt --check)$/
const HOSTED = /^ubuntu-(latest|\d\d\.\d\d)$/
const PINNED = /^[\w.:/-]+@[0-9a-f]{40}$/
/** What others write becomes a part of a script, unless it comes by a variable. */
const INTERPOLATED = /\$\{\{/

export function stepsOf(text: string): Step[] {
  const { jobs = {}, runs } = parse(text) as Partial<Workflow> & { runs?: { steps: Step[] } }
  return [...Object.values(jobs).flatMap(({ steps = [] }) => steps), ...(runs?.steps ?? [])]
}

/** A sentence for each thing that is wrong with a workflow, or with a composite action. */
export function wrongWith(text: string): string[] {
  const steps = stepsOf(text)
  const uses = steps.flatMap(({ uses }) => uses ?? []).filter((action) => action !== './ci/action')
  return [
    ...uses.filter((action) => !PINNED.test(action)).map((action) => `${action} is not pinned by its digest`),
    ...lines(text)
      .filter((line) => /\buses:.*@[0-9a-f]{40}/.test(line) && !/ # v\d+(\.\d+){2}$/.test(line))
      .map((line) => `no version beside ${line.trim()}`),
    ...steps
      .filter(({ run = '' }) => INTERPOLATED.test(run))
      .map(({ run }) => `an expression becomes part of a script: ${run}`),
    ...commandsOf(text).flatMap(unknownToProgram),
    ...forStrangers(text),
  ]
}

/** What is wrong with a workflow that runs for pull requests, as those of strangers do. */
function forStrangers(text: string): string[] {
  const { on = {}, permissions, jobs = {} } = parse(text) as Partial<Workflow>
  const events = typeof on === 'string' ? [on] : Array.isArray(on) ? on : Object.keys(on)
  const wrong = events.includes('pull_request_target') ? ['pull_request_target has the secrets'] : []
  if (!events.some((event: string) => event.startsWith('pull_request'))) return wrong
  if (JSON.stringify(permissions) !== '{"contents":"read"}') wrong.push('it may do more than read')
  if (/\bsecrets\b|github\.token/.test(withoutComments(text))) wrong.push('it names secrets')
  for (const [name, job] of Object.entries(jobs)) {
    if (!HOSTED.test(String(job['runs-on']))) wrong.push(`${name} has a runner that is not GitHub’s`)
    if (job.environment !== undefined) wrong.push(`${name} has an environment`)
    if (job.permissions !== undefined) wrong.push(`${name} has permissions of its own`)
  }
  return [
    ...wrong,
    ...commandsOf(text)
      .filter((words) => !FOR_STRANGERS.test(words.join(' ')))
      .map((words) => `imagebuild ${words.join(' ')} is not for strangers`),
  ]
}

/** The command lines of imagebuild in a file: words after its name. What is in a variable is left out. */
export function commandsOf(text: string): string[][] {
  const steps = stepsOf(text)
  const scripts = steps.length > 0 ? steps.flatMap(({ run }) => run ?? []) : [text]
  const given = steps
    .flatMap((step) => (step.uses === './ci/action' ? (step.with?.command ?? []) : []))
    .map((command) => lines(String(command)))
  const called = scripts
    .flatMap((script) => lines(withoutComments(script)))
    .flatMap((line) => [...line.matchAll(/(?:^|[\s(/=])imagebuild"? +([^|;&>)]+)/g)])
    .map(([, rest = '']) => rest.trim().split(/\s+/))
    .filter(([first]) => first !== undefined && /^[a-z-]/.test(first))
  return [...given, ...called]
}

function lines(text: string): string[] {
  return text.split('\n').filter((line) => line.trim() !== '')
}

function withoutComments(text: string): string {
  return text.replace(/^\s*#.*$/gm, '')
}

/** What of a command line the program does not have. */
export function unknownToProgram(words: readonly string[]): string[] {
  const invocation: Invocation = {
    ...{ version: '0.0.0', secrets: new SecretRegistry(), debug: false },
    signal: new AbortController().signal,
  }
  let command: Command = createProgram(invocation)
  const rest = [...words]
  for (;;) {
    const inner = command.commands.find((one) => one.name() === rest[0])
    if (inner === undefined) break
    command = inner
    rest.shift()
  }
  const said = `imagebuild ${words.join(' ')}`
  if (command.commands.length > 0 && rest[0] !== '--version') return [`${said}: there is no such command`]
  const end = rest.indexOf('--')
  return rest
    .slice(0, end < 0 ? undefined : end)
    .filter((word) => word.startsWith('-'))
    .filter((word) => !command.options.some(({ long, short }) => word === long || word === short))
    .map((word) => `${said}: there is no option ${word}`)
}
