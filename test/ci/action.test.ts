import { chmod, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { execa } from 'execa'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { stepsOf } from './workflow-guard.ts'

/** The scripts of the composite action, run by bash as a runner does, with a repository that stands for imagebuild's. */

const ACTION = resolve(import.meta.dirname, '../../ci/action')
/** Says what it was called with, an argument a line. */
const PROGRAM = '#!/bin/sh\nprintf "<%s>\\n" "$@"\n'

let folder: string
let source: string
let commit: string

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'imagebuild-action-'))
  source = join(folder, 'source')
  await mkdir(join(source, 'ci/action'), { recursive: true })
  await commitProgram(PROGRAM)
  commit = (await git('rev-parse', 'HEAD')).stdout
  await commitProgram('#!/bin/sh\necho another program\n')
})
afterEach(() => rm(folder, { recursive: true }))

const git = (...args: string[]) =>
  execa('git', ['-C', source, '-c', 'user.name=test', '-c', 'user.email=test@example.com', ...args])

async function commitProgram(text: string): Promise<void> {
  await writeFile(join(source, 'imagebuild'), text)
  await chmod(join(source, 'imagebuild'), 0o755)
  await git('init', '--quiet')
  await git('add', '--all')
  await git('commit', '--quiet', '--message', 'imagebuild')
}

/** Both steps, as far as they go. */
async function act(inputs: { repository?: string; ref?: string; command?: string }) {
  const [install, run] = stepsOf(await readFile(join(ACTION, 'action.yml'), 'utf8'))
  const path = join(folder, 'path')
  await writeFile(path, '')
  const env = { RUNNER_TEMP: folder, GITHUB_PATH: path, ACTION: join(source, 'ci/action') }
  const bash = (script: string | undefined, more: Record<string, string>) =>
    execa('bash', ['-e', '-c', script ?? ''], { cwd: folder, reject: false, env: { ...env, ...more } })
  const { repository = '', ref = '', command = '' } = inputs
  const installed = await bash(install?.run, { REPOSITORY: repository, REF: ref })
  if (installed.exitCode !== 0) return installed
  const added = (await readFile(path, 'utf8')).trim()
  return await bash(run?.run, { COMMAND: command, PATH: `${added}:${process.env.PATH}` })
}

test('installs the commit that was named, not what a branch has by now', async () => {
  const { stdout, stderr } = await act({ repository: source, ref: commit, command: 'validate' })
  expect(stdout, stderr).toBe('<validate>')
})

test('takes the checkout that it is in where no repository is named', async () => {
  expect((await act({ command: 'validate' })).stdout).toBe('another program')
})

test.each(['main', 'v1.2.3', 'abc1234', '--upload-pack=touch ran'])('refuses %s as a commit', async (ref) => {
  const { exitCode, stdout } = await act({ repository: source, ref })
  expect(exitCode).toBe(64)
  expect(stdout).toBe('::error::imagebuild: ref must be a full commit, 40 hexadecimal digits')
})

test('hands each line over as one argument, which no shell reads', async () => {
  const command = 'ci\nrun\n\n--result\na b.json\n$(touch ran)\n; touch ran #\n*\n'
  const { stdout } = await act({ repository: source, ref: commit, command })
  const words = ['ci', 'run', '--result', 'a b.json', '$(touch ran)', '; touch ran #', '*']
  expect(stdout.split('\n')).toEqual(words.map((word) => `<${word}>`))
  await expect(readFile(join(folder, 'ran'))).rejects.toThrow('ENOENT')
})

test('takes no option for a repository', async () => {
  const { exitCode } = await act({ repository: '--upload-pack=touch ran', ref: commit })
  expect(exitCode).not.toBe(0)
  await expect(readFile(join(folder, 'ran'))).rejects.toThrow('ENOENT')
})
