import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { asCalled, COMMANDS, calledAs, withConfig } from '../../src/cli/called.ts'
import { whatNext } from '../../src/cli/commands/run.ts'
import { createProgram } from '../../src/cli/program.ts'
import { sayOnce } from '../../src/cli/say-once.ts'
import type { Event } from '../../src/core/events.ts'
import { SecretRegistry } from '../../src/core/secrets.ts'
import { shellWord } from '../../src/core/shell-word.ts'
import { cli } from './captured.ts'

beforeEach(() => {
  vi.stubEnv('NO_COLOR', '1')
})
afterEach(() => {
  calledAs('imagebuild')
  vi.unstubAllEnvs()
})

describe('the command in hints', () => {
  test('is as it was called, in quotes where it needs them', () => {
    calledAs('./imagebuild')
    expect(asCalled('run `imagebuild prune`, or imagebuild lab stop')).toBe(
      'run `./imagebuild prune`, or ./imagebuild lab stop',
    )
    calledAs('/srv/my images/imagebuild')
    withConfig('other dir/imagebuild.yaml')
    expect(asCalled('imagebuild run a')).toBe(
      "'/srv/my images/imagebuild' --config 'other dir/imagebuild.yaml' run a",
    )
  })

  test('is told apart from the project, its files and what is translated already', () => {
    calledAs('./imagebuild')
    withConfig(undefined)
    const text =
      'VMIDs that imagebuild may use, /opt/imagebuild run, imagebuild runs, imagebuild.yaml, imagebuild plans'
    expect(asCalled(text)).toBe(text)
    expect(asCalled(asCalled('imagebuild list'))).toBe('./imagebuild list')
  })

  test('knows all commands', () => {
    const invocation = {
      ...{ version: '1', secrets: new SecretRegistry(), debug: false },
      signal: new AbortController().signal,
    }
    const names = createProgram(invocation).commands.map((command) => command.name())
    expect(names.toSorted()).toEqual([...COMMANDS].toSorted())
  })

  test('stands so in errors, in help and in usage', async () => {
    calledAs('./imagebuild')
    expect((await cli('run')).stderr).toContain('→ ./imagebuild run <image>, or ./imagebuild run --all')
    expect((await cli('--help')).stdout).toMatch(/^Usage: \.\/imagebuild .*\.\/imagebuild run debian-base/s)
    expect((await cli('rnu')).stderr).toContain('→ ./imagebuild --help')
  })
})

describe('help', () => {
  test('of a command within a command', async () => {
    const { code, stdout } = await cli('help', 'lab', 'start')
    expect(code).toBe(0)
    expect(stdout).toMatch(/^Usage: imagebuild lab start .*--port/s)
  })

  test.each([
    [['help', 'rnu'], 'there is no command rnu', 'did you mean: imagebuild help run'],
    [['help', 'lab', 'strat'], 'there is no command lab strat', 'did you mean: imagebuild help lab start'],
    [['help', 'lab', 'xyzzy'], 'there is no command lab xyzzy', 'imagebuild help lab shows what there is'],
  ])('%j suggests', async (argv, what, next) => {
    const { code, stderr } = await cli(...argv)
    expect(code).toBe(64)
    expect(stderr).toBe(`error: ${what}\n  → ${next}\n`)
  })
})

test('one warning is said once, of however many images', () => {
  const seen: Event[] = []
  const screen = sayOnce((event) => seen.push(event))
  for (const image of ['a', 'b', 'c']) {
    screen({ type: 'warning', image, message: 'upstream is away' })
    screen({ type: 'info', image, message: 'going on' })
  }
  expect(seen.map(({ type }) => type)).toEqual(['warning', 'info', 'info', 'info'])
})

test('the last line of a run says what to clone and what to type', () => {
  const built = (image: string, vmid: number) => ({
    ...{ image, status: 'built' as const, held: false, seconds: 1 },
    templates: [{ node: 'lab', vmid, name: image, version: '20260101.1', digest: 'sha256:1' }],
  })
  expect(whatNext([{ ...built('dns', 9000), verifySeconds: 9 }], ' --target home')).toBe(
    'clone it by VMID 9000 on lab; next: imagebuild show dns --verify --target home\n',
  )
  expect(whatNext([built('dns', 9000)], '')).toBe('clone it by VMID 9000 on lab; next: imagebuild show dns\n')
  expect(whatNext([built('a', 9000), built('b', 9001)], '')).toBe(
    'clone a by VMID 9000 on lab, b by VMID 9001 on lab; next: imagebuild list\n',
  )
  expect(whatNext([{ ...built('a', 9000), status: 'unchanged' }], '')).toBe('')
})

test.each([
  ['web', 'web'],
  ['my target', "'my target'"],
  ["it's", "'it'\\''s'"],
])('%s is typed as %s', (word, typed) => {
  expect(shellWord(word)).toBe(typed)
})
