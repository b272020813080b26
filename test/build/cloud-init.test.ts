import { describe, expect, test } from 'vitest'
import { awaitCloudInit } from '../../src/build/cloud-init.ts'
import type { ImagebuildError } from '../../src/core/errors.ts'
import { aBuild, FakeSession } from './world.ts'

/** As cloud-init 22.4 (Debian 12) and 24.1 (Ubuntu 24.04) write them: one space of indent, a newline at the end. */
const print = (value: unknown, end = '\n') => `${JSON.stringify(value, undefined, 1)}${end}`

const DATASOURCE = 'DataSourceNoCloud [seed=/dev/sr0][dsmode=net]'
const result = (errors: string[] = []) => ({ v1: { datasource: DATASOURCE, errors } })

const stage = (recoverable?: Record<string, string[]>) => ({
  errors: [],
  finished: 1762905602.5,
  start: 1762905601.5,
  ...(recoverable && { recoverable_errors: recoverable }),
})
const status = (recoverable?: Record<string, string[]>) => ({
  v1: {
    datasource: DATASOURCE,
    init: stage(recoverable && {}),
    'init-local': stage(recoverable && {}),
    'modules-config': stage(recoverable),
    'modules-final': stage(recoverable && {}),
    stage: null,
  },
})

async function waitFor(answer: { code?: number; stdout?: string; stderr?: string }, log = '') {
  const build = aBuild()
  const session = new FakeSession(({ command }) => (command.startsWith('tail') ? { stdout: log } : answer))
  const error = await awaitCloudInit(build, session).then(
    () => undefined,
    (error: ImagebuildError) => error,
  )
  return { error, events: build.events, session }
}

describe('the first boot', () => {
  test.each([
    ['of cloud-init 22.4', `${print(result())}\n${print(status())}`],
    ['of cloud-init 24.1', `${print(result())}\n${print(status({}))}`],
    ['without newlines at the end', `${print(result(), '')}\n${print(status(), '')}`],
  ])('went well: %s', async (_which, stdout) => {
    const { error, events, session } = await waitFor({ stdout })
    expect(error).toBeUndefined()
    expect(events).toEqual([])
    expect(session.ran).toMatchObject([{ options: { sudo: true, seconds: 900 } }])
  })

  test('went well but for some things: each is a warning', async () => {
    const recoverable = {
      WARNING: ['Unhandled unknown content-type'],
      DEPRECATED: ['`chpasswd.list` is deprecated'],
    }
    const { error, events } = await waitFor({ stdout: `${print(result())}\n${print(status(recoverable))}` })
    expect(error).toBeUndefined()
    expect(events).toEqual([
      {
        type: 'warning',
        image: 'web',
        message: 'cloud-init, stage modules-config, warning: Unhandled unknown content-type',
      },
      {
        type: 'warning',
        image: 'web',
        message: 'cloud-init, stage modules-config, deprecated: `chpasswd.list` is deprecated',
      },
    ])
  })

  test('failed: with cloud-init’s own words and the end of its log', async () => {
    const errors = ["('package_update_upgrade_install', CalledProcessError('apt-get'))", "('runcmd', …)"]
    const { error } = await waitFor(
      { stdout: `${print(result(errors))}\n${print(status())}` },
      'E: no such\n\nfailed\n',
    )
    expect(error).toMatchObject({
      code: 'build_failed',
      what: 'cloud-init failed in the guest',
      why: errors.join('\n'),
      output: ['E: no such', 'failed'],
    })
  })

  test('failed: made-up passwords in its log are not quoted, however long ago they were printed', async () => {
    const later = Array.from({ length: 12 }, (_, line) => `line ${line}`)
    const log = [
      "Set the following 'random' passwords",
      'root:hunter2hunter2',
      'admin:correct-horse',
      ...later,
    ]
    const answer = { stdout: `${print(result(['no']))}\n${print(status())}` }
    const quoted = (await waitFor(answer, `${log.join('\n')}\n`)).error?.output
    expect(quoted?.slice(-12)).toEqual(later)
    expect(quoted?.slice(0, -12)).toEqual([
      "Set the following 'random' passwords",
      'root:(a password, not shown)',
      'admin:(a password, not shown)',
    ])
    const shortened = (await waitFor(answer, `${[...log, 'last', 'of all'].join('\n')}\n`)).error?.output
    expect(shortened?.slice(0, 2)).toEqual(['admin:(a password, not shown)', 'line 0'])
  })

  test('did not take place: cloud-init is disabled or missing', async () => {
    const { error } = await waitFor({ code: 64 })
    expect(error).toMatchObject({ code: 'build_failed', why: 'it is disabled, or not installed' })
    expect(error?.next).toContain('cloud image')
  })

  test('cannot be asked about', async () => {
    expect((await waitFor({ code: 1, stderr: 'sudo: a password is required\n' })).error?.why).toBe(
      'sudo: a password is required',
    )
  })
})
