import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import type { Invocation } from '../../src/cli/invocation.ts'
import { createProgram } from '../../src/cli/program.ts'
import { SecretRegistry } from '../../src/core/secrets.ts'
import { projectOnDisk } from '../definition/project-on-disk.ts'
import { cli } from './captured.ts'

beforeEach(() => {
  for (const name of Object.keys(process.env))
    if (name.startsWith('IMAGEBUILD_') || name === 'CI') vi.stubEnv(name, undefined)
  vi.stubEnv('NO_COLOR', '1')
})
afterEach(() => {
  vi.unstubAllEnvs()
})

const IMAGE = 'name: a\nsource: { release: debian/12 }\n'

describe('a command line that is wrong ends with 64', () => {
  test.each([
    [['rnu'], /Did you mean run\?/],
    [['run', '--forse'], /Did you mean --force\?/],
    [['run', 'a', '--on-error', 'explode'], /Allowed choices are cleanup, keep/],
    [['show'], /missing required argument 'image'/],
    [['resolve', 'a', 'b'], /too many arguments/],
    [['outputs', '--format', 'xml'], /Allowed choices are json, tfvars, ansible, env/],
    [['lab', 'start', '--port', 'x'], /must be a port, 1 to 65535/],
    [['lab', 'start', '--port', '0'], /without --port any free one is taken/i],
    [['lab', 'start', '--port', '65536'], /must be a port, 1 to 65535/],
    [['lab', 'start', '--port', '80.5'], /must be a port, 1 to 65535/],
    [['run', 'a', '--parallel', '0'], /must be a whole number, 1 at least/],
    [['run', 'nothing-*'], /no image is called nothing-\*/],
    [['run', '--target'], /argument missing/],
    [['schema', 'nothing'], /there is no schema for nothing/],
    [['run'], /no image is named/],
    [['fmt', 'nowhere.yaml'], /nowhere.yaml cannot be read/],
    [[], /Usage: imagebuild/],
  ])('imagebuild %j', async (argv, message) => {
    const { code, stdout, stderr } = await cli(...argv)
    expect(stderr).toMatch(message)
    expect(code).toBe(64)
    expect(stdout).toBe('')
  })
})

test('help and version are no errors', async () => {
  expect(await cli('--version')).toEqual({ code: 0, stdout: 'imagebuild 1.2.3\n', stderr: '' })
  for (const argv of [['--help'], ['run', '--help'], ['help', 'lab']]) {
    const { code, stdout } = await cli(...argv)
    expect(code).toBe(0)
    expect(stdout).toContain('Usage: imagebuild')
  }
})

describe('definitions that are wrong end with 65', () => {
  test('all mistakes on stderr, nothing on stdout', async () => {
    await using project = await projectOnDisk({ 'images/a/image.yaml': 'name: a\nsorce: {}\n' })
    for (const command of [['validate'], ['run', 'a'], ['run', '--all'], ['show', 'a']]) {
      const { code, stdout, stderr } = await cli(
        '--config',
        join(project.root, 'imagebuild.yaml'),
        ...command,
      )
      expect(code).toBe(65)
      expect(stdout).toBe('')
      expect(stderr).toContain('image.yaml:2:1')
      expect(stderr).toContain('did you mean `source`')
    }
  })

  test('run --json ends with run.end also then', async () => {
    await using project = await projectOnDisk({ 'images/a/image.yaml': 'name: a\nsorce: {}\n' })
    const config = join(project.root, 'imagebuild.yaml')
    const { code, stdout } = await cli('--config', config, 'run', 'a', '--json')
    expect(code).toBe(65)
    expect(JSON.parse(stdout)).toMatchObject({
      type: 'run.end',
      schema: 1,
      results: [{ image: 'a', status: 'failed', error: { code: 'definition_invalid', exitCode: 65 } }],
    })
  })

  test('as JSON where that is asked for', async () => {
    await using project = await projectOnDisk({ 'images/a/image.yaml': 'name: a\nsorce: {}\n' })
    const { code, stdout, stderr } = await cli(
      '--config',
      join(project.root, 'imagebuild.yaml'),
      'validate',
      '--json',
    )
    expect(code).toBe(65)
    expect(JSON.parse(stdout)).toContainEqual(expect.objectContaining({ line: 2, column: 1 }))
    expect(stderr).toBe('')
  })

  test('no imagebuild.yaml at all, too', async () => {
    const { code, stderr } = await cli('--config', '/nonexistent/imagebuild.yaml', 'validate')
    expect(code).toBe(65)
    expect(stderr).toContain('/nonexistent/imagebuild.yaml')
  })
})

test('definitions that are right are named', async () => {
  await using project = await projectOnDisk({ 'images/a/image.yaml': IMAGE })
  const { code, stdout } = await cli('--config', join(project.root, 'imagebuild.yaml'), 'validate')
  expect(stdout).toBe('1 image is valid: a\n')
  expect(code).toBe(0)
})

// Debian 12 has ended for ever; nothing below depends on today.
test('a release whose support has ended is said, and is valid', async () => {
  await using project = await projectOnDisk({ 'images/a/image.yaml': IMAGE })
  const validate = ['--config', join(project.root, 'imagebuild.yaml'), 'validate']
  const { code, stdout, stderr } = await cli(...validate)
  expect(stderr).toMatch(/image.yaml:2:20: warning: .* Debian 12 ended on 20\d\d-\d\d-\d\d/)
  expect(stderr).toContain('https://www.debian.org/releases/')
  expect(stdout).toBe('1 image is valid: a\n')
  expect(code).toBe(0)
  expect(JSON.parse((await cli(...validate, '--json')).stdout)).toEqual([
    expect.objectContaining({ severity: 'warning', line: 2, column: 20 }),
  ])
})

test('on CI no target is chosen by itself: a build must not end in a lab unnoticed', async () => {
  await using project = await projectOnDisk({ 'images/a/image.yaml': IMAGE })
  vi.stubEnv('CI', 'true')
  for (const command of [['run', 'a'], ['list'], ['resolve', 'a'], ['prune']]) {
    const { code, stdout, stderr } = await cli('--config', join(project.root, 'imagebuild.yaml'), ...command)
    expect(code).toBe(64)
    expect(stdout).toBe('')
    expect(stderr).toContain('no target is chosen')
    expect(stderr).toContain('IMAGEBUILD_TARGET')
  }
})

test('stack traces only when they are asked for', async () => {
  expect((await cli('schema', 'x')).stderr).not.toContain('    at ')
  expect((await cli('--debug', 'schema', 'x')).stderr).toContain('    at ')
  vi.stubEnv('IMAGEBUILD_DEBUG', '1')
  expect((await cli('schema', 'x')).stderr).toContain('    at ')
})

describe('options from the environment', () => {
  /** What `run` would be called with. */
  async function options(...argv: string[]): Promise<Record<string, unknown>> {
    const invocation: Invocation = {
      version: '1',
      secrets: new SecretRegistry(),
      signal: new AbortController().signal,
      debug: false,
    }
    const program = createProgram(invocation)
    const run = program.commands.find((command) => command.name() === 'run')
    let seen: Record<string, unknown> = {}
    run?.action((_images: string[], given: Record<string, unknown>) => {
      seen = {
        ...given,
        ...('config' in invocation && { config: invocation.config }),
        debug: invocation.debug,
      }
    })
    await program.parseAsync(['run', 'a', ...argv], { from: 'user' })
    return seen
  }

  const DEFAULTS = {
    all: false,
    force: false,
    cache: true,
    onError: 'cleanup',
    verify: 'full',
    wait: false,
    parallel: 1,
    json: false,
    debug: false,
  }

  test('none', async () => {
    expect(await options()).toEqual(DEFAULTS)
  })

  test.each([
    ['IMAGEBUILD_FORCE', '1', { force: true }],
    ['IMAGEBUILD_FORCE', 'true', { force: true }],
    ['IMAGEBUILD_ALL', '1', { all: true }],
    ['IMAGEBUILD_WAIT', '1', { wait: true }],
    ['IMAGEBUILD_PARALLEL', '3', { parallel: 3 }],
    ['IMAGEBUILD_JSON', 'yes', { json: true }],
    ['IMAGEBUILD_NO_CACHE', '1', { cache: false }],
    ['IMAGEBUILD_DEBUG', '1', { debug: true }],
    ['IMAGEBUILD_ON_ERROR', 'keep', { onError: 'keep' }],
    ['IMAGEBUILD_TARGET', 'home', { target: 'home' }],
    ['IMAGEBUILD_CONFIG', '/x/imagebuild.yaml', { config: '/x/imagebuild.yaml' }],
    ['IMAGEBUILD_FORCE', '0', {}],
    ['IMAGEBUILD_FORCE', 'false', {}],
    ['IMAGEBUILD_FORCE', 'No', {}],
    ['IMAGEBUILD_FORCE', '', {}],
    ['IMAGEBUILD_NO_CACHE', '0', {}],
    ['IMAGEBUILD_TARGET', '', {}],
    ['IMAGEBUILD_ON_ERROR', '', {}],
  ])('%s=%s', async (name, value, expected) => {
    vi.stubEnv(name, value)
    expect(await options()).toEqual({ ...DEFAULTS, ...expected })
  })

  test('the command line counts more', async () => {
    vi.stubEnv('IMAGEBUILD_TARGET', 'home')
    expect(await options('--target', 'lab')).toMatchObject({ target: 'lab' })
  })

  test('a value that is not allowed is wrong usage', async () => {
    vi.stubEnv('IMAGEBUILD_ON_ERROR', 'explode')
    const { code, stderr } = await cli('run', 'a')
    expect(code).toBe(64)
    expect(stderr).toContain('IMAGEBUILD_ON_ERROR')
  })
})
