import { mkdir, mkdtemp, realpath, rm, symlink } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, describe, expect, test, vi } from 'vitest'
import { type Annotation, annotation } from '../../src/cli/github-log.ts'
import { annotate, guardOutput } from '../../src/cli/output.ts'
import { REDACTED, SecretRegistry } from '../../src/core/secrets.ts'
import { projectOnDisk } from '../definition/project-on-disk.ts'
import { cli } from './captured.ts'

afterEach(() => {
  vi.unstubAllEnvs()
  vi.restoreAllMocks()
  guardOutput(new SecretRegistry())
})

const commandsIn = (log: string) => log.split('\n').filter((line) => line.startsWith('::'))

describe('on GitHub', () => {
  async function project(files: Record<string, string>) {
    const made = await projectOnDisk(files)
    vi.stubEnv('GITHUB_ACTIONS', 'true')
    vi.stubEnv('GITHUB_WORKSPACE', made.root)
    return made
  }
  const within = (root: string, ...command: string[]) =>
    cli('--config', join(root, 'imagebuild.yaml'), ...command)

  const WRONG = 'name: a\nkind: vm\nsource: { release: debian/13 }\nhardwaer: { cores: 1 }\n'

  test.each([[['validate']], [['validate', '--json']]])('%j marks mistakes', async (command) => {
    await using made = await project({ 'images/a/image.yaml': WRONG })
    const { code, stderr } = await within(made.root, ...command)
    expect(code).toBe(65)
    expect(commandsIn(stderr)).toEqual([
      expect.stringMatching(/^::error file=images\/a\/image\.yaml,line=4,col=1::.*hardwaer.*hardware/),
    ])
  })

  test('validate marks doubts', async () => {
    const ended = 'name: a\nkind: vm\nsource: { release: debian/12 }\n'
    await using made = await project({ 'images/a/image.yaml': ended })
    const { code, stderr } = await within(made.root, 'validate')
    expect(code).toBe(0)
    expect(commandsIn(stderr)).toEqual([
      expect.stringMatching(/^::warning file=images\/a\/image\.yaml,line=3,col=\d+::.*Debian 12 ended/),
    ])
  })

  test('fmt --check marks the first line that it would change', async () => {
    await using made = await project({
      'images/a/image.yaml': 'name: a\nkind: vm\nsource: {release: debian/13}\n',
    })
    const { code, stderr } = await within(made.root, 'fmt', '--check')
    expect(code).toBe(1)
    expect(commandsIn(stderr)).toContainEqual(
      expect.stringMatching(
        /^::error file=images\/a\/image\.yaml,line=3,col=1::.*%0Arun: .*imagebuild.* fmt$/,
      ),
    )
  })

  test('fmt --check marks what is no YAML', async () => {
    await using made = await project({ 'images/a/image.yaml': 'name: [a\n' })
    const { code, stderr } = await within(made.root, 'fmt', '--check', join(made.root, 'images/a/image.yaml'))
    expect(code).toBe(65)
    expect(commandsIn(stderr)[0]).toMatch(/^::error file=images\/a\/image\.yaml,line=\d+,col=\d+::/)
  })

  test('secrets and control characters are in none of them', () => {
    const secrets = new SecretRegistry()
    secrets.add('hunter2')
    guardOutput(secrets)
    vi.stubEnv('GITHUB_ACTIONS', 'true')
    let seen = ''
    vi.spyOn(process.stderr, 'write').mockImplementation((text) => {
      seen += String(text)
      return true
    })
    annotate([place({ message: 'hunt\x1b[1mer2', file: '/x/hunter2.yaml' })])
    expect(seen).toBe(`::error file=/x/${REDACTED}.yaml,line=1,col=2::${REDACTED}\n`)
  })
})

test('elsewhere nothing is marked', async () => {
  vi.stubEnv('GITHUB_ACTIONS', '')
  await using made = await projectOnDisk({ 'images/a/image.yaml': 'name: a\nkind: no\n' })
  const { stderr } = await cli('--config', join(made.root, 'imagebuild.yaml'), 'validate')
  expect(commandsIn(stderr)).toEqual([])
})

const place = (more: Partial<Annotation> = {}): Annotation => ({
  ...{ severity: 'error', file: '/work/a.yaml', line: 1, column: 2, message: 'wrong' },
  ...more,
})

test('neither a name nor a message gives another command or property', () => {
  expect(
    annotation(
      place({ file: '/work/a,line=9:%\n.yaml', message: 'a\r\n::error::b 100%', hint: 'c:d' }),
      '/work',
    ),
  ).toBe('::error file=a%2Cline=9%3A%25%0A.yaml,line=1,col=2::a%0D%0A::error::b 100%25%0Ac:d\n')
})

test('paths are the repository’s, also through a link, and others stay', async () => {
  const folder = await realpath(await mkdtemp(join(tmpdir(), 'imagebuild-annotations-')))
  try {
    await mkdir(join(folder, 'real'))
    await symlink('real', join(folder, 'link'))
    const file = join(folder, 'real/images/a.yaml')
    expect(annotation(place({ file }), join(folder, 'link'))).toMatch(/ file=images\/a\.yaml,/)
    expect(annotation(place({ file }), join(folder, 'elsewhere'))).toContain(` file=${file},`)
    expect(annotation(place({ file }), undefined)).toContain(` file=${file},`)
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
})
