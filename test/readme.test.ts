import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { createProgram } from '../src/cli/program.ts'
import { SecretRegistry } from '../src/core/secrets.ts'
import { knownItems } from '../src/hardening/expand.ts'
import { catalogIds } from '../src/source/catalog.ts'
import { projectOnDisk } from './definition/project-on-disk.ts'

/**
 * README's examples, as they stand there: definitions are loaded, command lines are read by the program that they call.
 * Nothing is built here.
 */

const README = readFileSync(new URL('../README.md', import.meta.url), 'utf8')

/** Blocks of one language, without the indentation that they have within a list. */
function blocks(language: string): string[] {
  const fence = new RegExp(`^( *)\`\`\`${language}\\n([\\s\\S]*?)^ *\`\`\`$`, 'gm')
  return [...README.matchAll(fence)].map(([, indent = '', text = '']) =>
    text.replaceAll(new RegExp(`^${indent}`, 'gm'), ''),
  )
}

/** As the program loads them. */
const KNOWN = { releases: catalogIds(), hardeningItems: knownItems() }

const isWhole = (text: string) => /^name: /m.test(text)

beforeEach(() => {
  for (const name of Object.keys(process.env)) if (name.startsWith('IMAGEBUILD_')) vi.stubEnv(name, undefined)
})
afterEach(() => {
  vi.unstubAllEnvs()
})

describe('definitions', () => {
  const whole = blocks('yaml').filter(isWhole)

  test('there are two whole ones', () => {
    expect(whole).toHaveLength(2)
  })

  test.each(whole.map((text) => [/^name: (.*)/m.exec(text)?.[1] ?? '', text] as const))(
    '%s, with the files that are made beside it',
    async (name, text) => {
      await using project = await projectOnDisk({
        [`images/${name}/image.yaml`]: text,
        'cloud-init/base.yaml': '#cloud-config\nlocale: C.UTF-8\n',
      })
      for (const lines of blocks('sh').filter((block) => block.includes(`images/${name}/`))) {
        const making = lines.replaceAll(/^\.\/imagebuild .*$/gm, '')
        execFileSync('sh', ['-euc', making], {
          cwd: project.root,
          env: { ...process.env, HOME: project.root },
        })
      }
      expect(await project.mistakes(KNOWN)).toEqual([])
    },
  )

  const parts = blocks('yaml').filter(
    (text) => /^(hardening|provision|checks|template):/m.test(text) && !isWhole(text),
  )
  test.each(parts.map((text) => [text]))('in a definition: %s', async (text) => {
    await using project = await projectOnDisk({
      'images/a/image.yaml': `name: a\nsource: { release: debian/13 }\n${text}`,
    })
    expect(await project.mistakes(KNOWN)).toEqual([])
  })

  const targets = blocks('yaml').filter((text) => text.startsWith('targets:'))
  test.each(targets.map((text) => [text]))('targets: %s', async (text) => {
    // The one place that is left for the reader to fill in.
    const filled = text.replace('"AA:BB:…"', `'${Array(32).fill('AB').join(':')}'`)
    expect(filled).not.toBe(text)
    await using project = await projectOnDisk({ 'imagebuild.yaml': `namespace: home\n${filled}` })
    expect(await project.mistakes(KNOWN)).toEqual([])
  })
})

/** `./imagebuild …` in shell blocks, and the commands of the table. */
function commandLines(): string[][] {
  const lines = [...blocks('sh'), ...blocks('console')]
    .flatMap((text) => text.split('\n'))
    .flatMap((line) => /^(?:\$ )?(?:\.\/)?imagebuild (.*?)(?: +#.*)?$/.exec(line)?.[1] ?? [])
  const inline = [
    ...README.matchAll(/`(?:\.\/)?imagebuild ((?:run|show|diff|lab|ssh-ca|prune|help) [^`\n<[]+)`/g),
  ].map(([, line = '']) => line)
  return [...new Set([...lines, ...inline])].map((line) => line.trim().split(/\s+/))
}

describe('command lines are understood', () => {
  const lines = commandLines()

  test('they were found', () => {
    expect(lines.length).toBeGreaterThan(8)
  })

  test.each(lines.map((argv) => [argv.join(' '), argv] as const))('imagebuild %s', async (_, argv) => {
    const program = createProgram({
      ...{ version: '1', secrets: new SecretRegistry(), debug: false },
      signal: new AbortController().signal,
    })
    let understood = false
    // What a command does is not done: that it would be is what counts.
    const stop = (command: typeof program): void => {
      command.action(() => {
        understood = true
      })
      command.commands.forEach(stop)
    }
    program.commands.forEach(stop)
    await program.parseAsync(argv, { from: 'user' })
    expect(understood).toBe(true)
  })
})

/** Lines for a shell of which nothing runs here: they need a Proxmox server of the user's, or a published repository. */
const BY_SYNTAX_ALONE = [/^git clone /, /^npm /, /^pveum /, /^mkdir /, /^echo /, /^export /]

test('what else there is for a shell is listed', () => {
  const others = blocks('sh')
    .flatMap((text) => text.split('\n'))
    .filter((line) => line !== '' && !/^(\.\/)?imagebuild /.test(line))
  expect(others.filter((line) => !BY_SYNTAX_ALONE.some((known) => known.test(line)))).toEqual([])
})
