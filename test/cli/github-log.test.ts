import { afterEach, describe, expect, test, vi } from 'vitest'
import { grouped, mask, withoutWorkflowCommands } from '../../src/cli/github-log.ts'
import { guardOutput, print, printJson, printStyled, tell } from '../../src/cli/output.ts'
import { plainRenderer } from '../../src/cli/render.ts'
import type { Event } from '../../src/core/events.ts'
import { REDACTED, SecretRegistry } from '../../src/core/secrets.ts'

afterEach(() => {
  vi.unstubAllEnvs()
  vi.restoreAllMocks()
  guardOutput(new SecretRegistry())
})

/** What the outputs are given, in their order. */
function watched(name: 'stdout' | 'stderr'): () => string {
  let seen = ''
  vi.spyOn(process[name], 'write').mockImplementation((text) => {
    seen += String(text)
    return true
  })
  return () => seen
}

describe('on stdout and stderr', () => {
  test('nothing from outside steers the terminal, and no secret is shown', () => {
    const secrets = new SecretRegistry()
    secrets.add('hunter2')
    guardOutput(secrets)
    const [out, err] = [watched('stdout'), watched('stderr')]
    print('\x1b\x1b[0m]0;owned\x07 hunt\x1b[1mer2\n')
    printStyled('\x1b[31mred\x1b[39m \x1b[2J\u202e hunt\x1b[1mer2\n')
    tell('\x9b2J hunter2\n')
    expect(out()).toBe(`\ufffd]0;owned\ufffd ${REDACTED}\n\x1b[31mred\x1b[39m \ufffd ${REDACTED}\n`)
    expect(err()).toBe(` ${REDACTED}\n`)
  })

  test('JSON stays JSON', () => {
    const secrets = new SecretRegistry()
    secrets.add('pass"word')
    guardOutput(secrets)
    const out = watched('stdout')
    printJson({ a: 'x\x9b2J', b: ['pass', '"word'], c: undefined, d: 'pass"word' }, 'one line')
    expect(out()).toMatch(/^[ -~•]*\n$/)
    expect(JSON.parse(out())).toEqual({ a: 'x\x9b2J', b: [REDACTED, REDACTED], d: REDACTED })
  })

  test('no text is a command to GitHub, and elsewhere all stays as it is', () => {
    const texts = 'a\n::set-env name=PATH::/tmp\n  ::error::x\n##[warning]y ##[add-path]z\nstd::string\n'
    const out = watched('stdout')
    vi.stubEnv('GITHUB_ACTIONS', '')
    print(texts)
    expect(out()).toBe(texts)
    vi.stubEnv('GITHUB_ACTIONS', 'true')
    print(texts)
    printJson({ a: '##[warning]y' })
    const onGitHub = out().slice(texts.length)
    expect(onGitHub).not.toMatch(/^\s*::|##\[/m)
    expect(onGitHub).toContain('std::string')
    expect(JSON.parse(onGitHub.slice(onGitHub.indexOf('{')))).toEqual({ a: '##[warning]y' })
  })
})

test('white space of any kind before a command does not hide it', () => {
  for (const space of ['\t', '\u00a0', '\u2003', '\r', '\n ']) {
    expect(withoutWorkflowCommands(`${space}::error::x`)).not.toMatch(/^\s*::/m)
  }
})

describe('groups', () => {
  const START = { type: 'step.start', image: 'web', step: 'layer', label: 'layer “install”' } as const
  const END = { ...START, type: 'step.end', seconds: 1, ok: true } as const

  /** The log, without times. */
  function log(...events: Event[]): string[] {
    const lines: string[] = []
    const out = { write: (text: string) => lines.push(text.replace(/^\[ *[\d.]+\] /, '').trimEnd()) }
    const sink = grouped(plainRenderer(out), out)
    for (const event of events) sink(event)
    return lines
  }

  test('one for each step of an image, and how it ended is outside', () => {
    const line = { type: 'output', image: 'web', step: 'layer', stream: 'stdout', line: 'x' } as const
    expect(log(START, line, END)).toEqual([
      '::group::web: layer “install”',
      'web: layer “install”',
      'web | x',
      '::endgroup::',
      'web: layer “install”: done in 1.0s',
    ])
  })

  test('none while several images are built at once: they would close each other’s', () => {
    const other = { image: 'dns', step: 'boot', label: 'booting' }
    const lines = log(
      START,
      { type: 'step.start', ...other },
      { ...START, label: 'layer 2' },
      { type: 'step.end', ...other, seconds: 1, ok: true },
      { ...END, label: 'layer 2' },
      { ...START, label: 'layer 3' },
    )
    expect(lines.filter((line) => line.startsWith('::'))).toEqual([
      '::group::web: layer “install”',
      '::endgroup::',
      '::group::web: layer 3',
    ])
  })

  test('their names cannot end the line', () => {
    expect(log({ ...START, label: 'a\n::error::b' })[0]).toBe('::group::web: a%0A::error::b')
  })
})

describe('a secret', () => {
  const asked = { GITHUB_ACTIONS: 'true', IMAGEBUILD_GITHUB_MASK: 'true' }

  test('is masked before anybody has it, whole', async () => {
    const seen: string[] = []
    const commands = { write: (text: string) => seen.push(text) }
    vi.stubEnv('IB_TEST_SECRET', 'hun%ter2\nsecond')
    const where = { env: asked, isRead: () => true }
    const secrets = new SecretRegistry((value) => mask(value, commands, where))
    const resolving = secrets.resolve('env:IB_TEST_SECRET').then(() => seen.push('resolved'))
    await resolving
    expect(seen).toEqual(['::add-mask::hun%25ter2%0Asecond\n', 'resolved'])
  })

  test('that is too short to be one is not', async () => {
    const seen: string[] = []
    vi.stubEnv('IB_TEST_SECRET', 'no')
    await new SecretRegistry((value) => seen.push(value)).resolve('env:IB_TEST_SECRET')
    expect(seen).toEqual([])
  })

  test.each([
    ['a file, which stderr is', asked, false],
    ['who reads the pipe, unless that is said to be the runner', { GITHUB_ACTIONS: 'true' }, true],
    ['a reader who is not GitHub', { IMAGEBUILD_GITHUB_MASK: 'true' }, true],
    ['who wants none', { ...asked, IMAGEBUILD_GITHUB_MASK: 'false' }, true],
  ])('is not told by its own mask to %s', (_, env, read) => {
    const seen: string[] = []
    mask('hunter2', { write: (text) => seen.push(text) }, { env, isRead: () => read })
    expect(seen).toEqual([])
  })
})
