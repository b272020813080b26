import { execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parse } from '@cdktn/hcl2json'
import type { Command } from 'commander'
import { afterAll, beforeEach, describe, expect, test, vi } from 'vitest'
import { createProgram } from '../../src/cli/program.ts'
import { SecretRegistry } from '../../src/core/secrets.ts'
import { cli } from '../cli/captured.ts'
import { block, DOCUMENTS, textOf } from './blocks.ts'
import { examples, OTHER_COMMANDS } from './examples.ts'
import { pveumCall } from './pveum.ts'
import { callsOf, checkShell, wordsOf } from './shell.ts'

const EMPTY_HOME = mkdtempSync(`${tmpdir()}/imagebuild-readme-`)
for (const folder of ['keys', '.ssh']) mkdirSync(join(EMPTY_HOME, folder))
afterAll(() => rmSync(EMPTY_HOME, { recursive: true }))
beforeEach(() => {
  for (const name of Object.keys(process.env)) if (name.startsWith('IMAGEBUILD_')) vi.stubEnv(name, undefined)
  return () => vi.unstubAllEnvs()
})

const createdProgram = () =>
  createProgram({
    ...{ version: '1', secrets: new SecretRegistry(), debug: false },
    signal: new AbortController().signal,
  })

const allCommands = (command: Command): Command[] => [command, ...command.commands.flatMap(allCommands)]

/** Reads a command line as the program does. What the command does is not done: that it would be is what counts. */
async function isUnderstood(argv: readonly string[]): Promise<boolean> {
  const program = createdProgram()
  let understood = false
  for (const command of allCommands(program)) {
    if (command.commands.length > 0) continue
    command.action(() => {
      understood = true
    })
  }
  await program.parseAsync(argv, { from: 'user' })
  return understood
}

/** A placeholder is what the reader writes in its place. */
const inProse = (text: string) =>
  [
    ...text.matchAll(
      /`(?:\.\/)?imagebuild ((?:run|show|diff|lab|ssh-ca|prune|help|outputs|resolve|ci) [^`\n<[]+)`/g,
    ),
  ].map(([, line = '']) => `imagebuild ${line}`)

describe('shells and programs understand', () => {
  test.each(examples('run', 'syntax'))('%s', (_, { language, text }) => {
    expect(language).toBe('sh')
    // The reader has an address in its place.
    checkShell(text.replace('<this repository>', 'https://git.example/imagebuild'))
    const others = text
      .replaceAll('\\\n', ' ')
      .split('\n')
      .filter((line) => !/^(\.\/)?(imagebuild|pveum) /.test(line))
    const first = others.map((line) => line.split(' ')[0] ?? '')
    expect(OTHER_COMMANDS).toEqual(expect.arrayContaining(first.filter((word) => word !== '')))
  })

  const lines = [
    ...examples('run', 'syntax').flatMap(([, { text }]) => callsOf('imagebuild', text)),
    ...examples('shown').flatMap(([, { text }]) => callsOf('imagebuild', text.replaceAll(/^\$ /gm, ''))),
    ...DOCUMENTS.flatMap((document) => inProse(textOf(document))),
  ]
  const calls = wordsOf('imagebuild', [...new Set(lines)], EMPTY_HOME)

  test('each line that was found', () => {
    expect(calls).toHaveLength(new Set(lines).size)
    expect(calls.length).toBeGreaterThan(20)
  })

  test.each(calls.map((argv) => [argv.join(' '), argv]))('imagebuild %s', async (_, argv) => {
    expect(await isUnderstood(argv)).toBe(true)
  })

  test('pveum', () => {
    const { text } = block('README.md', 'pveum user add')
    const calls = wordsOf('pveum', callsOf('pveum', text), EMPTY_HOME).map(pveumCall)
    expect(calls.map(({ method, path }) => `${method} ${path}`)).toEqual([
      'POST /access/users',
      'POST /access/roles',
      'PUT /access/acl',
      'POST /access/users/imagebuild@pve/token/ci',
    ])
    expect(() => pveumCall(['user', 'add', 'a@pve', '--privs', 'x'])).toThrow('no option --privs')
    expect(() => pveumCall(['acl', 'modify', '--roles', 'x'])).toThrow('wants path')
  })
})

describe('Terraform and Packer have a parser that understands', () => {
  const files = execFileSync('git', ['ls-files', 'examples'], { encoding: 'utf8' })
    .split('\n')
    .filter((file) => /\.(tf|hcl)$/.test(file))

  test.each([
    ...examples('hcl').map(([at, { text }]) => [at, text] as const),
    ...files.map((file) => [file, textOf(file)] as const),
  ])('%s', async (at, text) => {
    expect(Object.keys(await parse(at, text)).length).toBeGreaterThan(0)
  })

  test('no other text', async () => {
    await expect(parse('broken.tf', 'resource "a" {\n')).rejects.toThrow()
    expect(files).toHaveLength(3)
  })
})

describe('help', () => {
  test('its first steps are understood', async () => {
    const { stdout } = await cli('--help')
    const steps = stdout.slice(stdout.indexOf('First steps:')).split('\n').slice(1)
    const lines = steps.map((line) => line.trim().split(/ {2,}/)[0] ?? '').filter((line) => line !== '')
    expect(lines).toHaveLength(3)
    for (const words of wordsOf('imagebuild', lines, EMPTY_HOME)) expect(await isUnderstood(words)).toBe(true)
  })

  test('so are the commands that it names in quotes', async () => {
    const text = allCommands(createdProgram())
      .map((command) => command.helpInformation())
      .join('\n')
    const named = [...text.matchAll(/`([a-z][^`]*)`|such as: (\w[\w -]*)/g)].map(
      ([, quoted, such]) => quoted ?? such ?? '',
    )
    expect(named).toContain('lab start')
    for (const line of named)
      expect(await isUnderstood(line.replace(/^imagebuild /, '').split(/\s+/)), line).toBe(true)
  })

  test("README's table has all commands, and options that they have", () => {
    const rows = textOf('README.md')
      .split('\n')
      .filter((line) => /^\| `/.test(line))
      .map((line) => line.split(/(?<!\\)\|/)[1] ?? '')
    const commands = allCommands(createdProgram()).slice(1)
    const named = rows.filter((cell) => commands.some((one) => cell.includes(`\`${one.name()}`)))
    for (const { name } of createdProgram().commands.map((one) => ({ name: one.name() })))
      if (name !== 'help') expect(named.join('\n'), name).toMatch(new RegExp(`\`${name}\\b`))
    for (const cell of named) {
      const those = commands.filter((one) => new RegExp(`\\b${one.name()}\\b`).test(cell))
      const known = those.flatMap((one) => one.options.map(({ long }) => long))
      expect(known, cell).toEqual(expect.arrayContaining(cell.match(/--[a-z-]+/g) ?? []))
    }
  })
})
