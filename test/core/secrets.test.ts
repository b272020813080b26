import { existsSync } from 'node:fs'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { inspect } from 'node:util'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { ImagebuildError } from '../../src/core/errors.ts'
import { isSecretReference, REDACTED, SecretRegistry } from '../../src/core/secrets.ts'

let folder: string
let secrets: SecretRegistry

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'imagebuild-secrets-'))
  secrets = new SecretRegistry()
})

afterEach(async () => {
  vi.unstubAllEnvs()
  await rm(folder, { recursive: true })
})

describe('references', () => {
  test.each(['env:TOKEN', 'file:/run/secret', 'cmd:pass show x', 'cmd:printf a\nprintf b'])('%j', (text) => {
    expect(isSecretReference(text)).toBe(true)
  })
  test.each(['', 'env:', 'hunter2', 'ENV:TOKEN', 'environment:x', ' env:x'])('not %j', (text) => {
    expect(isSecretReference(text)).toBe(false)
  })
})

describe('resolving', () => {
  test('from the environment, a file and a command, without the last newline', async () => {
    vi.stubEnv('IB_TEST_SECRET', 'from env')
    await writeFile(join(folder, 'secret'), 'from file\r\n')
    expect(await secrets.resolve('env:IB_TEST_SECRET')).toBe('from env')
    expect(await secrets.resolve(`file:${join(folder, 'secret')}`)).toBe('from file')
    expect(await secrets.resolve('cmd:printf "from %s\\n" cmd')).toBe('from cmd')
  })

  test('several lines stay as they are', async () => {
    await writeFile(join(folder, 'key'), 'first line\nsecond line\n\n')
    expect(await secrets.resolve(`file:${join(folder, 'key')}`)).toBe('first line\nsecond line\n')
  })

  test.each([
    ['env:IB_TEST_UNSET', /environment variable IB_TEST_UNSET is not set/],
    ['env:IB_TEST_EMPTY', /it is empty/],
    ['file:/nonexistent/secret', /ENOENT/],
    ['cmd:true', /it is empty/],
    ['cmd:exit 3', /the command failed: .*exit code 3/],
  ] as const)('%s gives no value', async (reference, why) => {
    vi.stubEnv('IB_TEST_EMPTY', '')
    const error = await secrets.resolve(reference).catch((error) => error)
    expect(error).toBeInstanceOf(ImagebuildError)
    expect(error).toMatchObject({ code: 'definition_invalid', exitCode: 65 })
    expect(error.what).toContain(reference)
    expect(error.why).toMatch(why)
    expect(error.next).toBeDefined()
  })

  test('what a failing command printed is nowhere in the error, not even in its causes', async () => {
    const error = await secrets.resolve('cmd:printf "hun%s" ter2; exit 1').catch((error) => error)
    expect(error).toBeInstanceOf(ImagebuildError)
    expect(inspect(error, { depth: 10, showHidden: true })).not.toContain('hunter2')
  })

  test('a command is ended by the signal, with the signal’s reason', async () => {
    const controller = new AbortController()
    const reason = new Error('Ctrl-C')
    const begun = join(folder, 'begun')
    const resolving = secrets.resolve(`cmd:touch ${begun}; sleep 30 2>/dev/null`, controller.signal)
    await expect.poll(() => existsSync(begun)).toBe(true)
    controller.abort(reason)
    await expect(resolving).rejects.toBe(reason)
  })
})

describe('redacting', () => {
  test('every value that was resolved, wherever it stands', async () => {
    vi.stubEnv('IB_TEST_SECRET', 'hunter2')
    await secrets.resolve('env:IB_TEST_SECRET')
    expect(secrets.redact('login hunter2:hunter2!')).toBe(`login ${REDACTED}:${REDACTED}!`)
  })

  test('each line of a key on its own', () => {
    secrets.add('-----BEGIN KEY-----\nAAAABBBB\r\n-----END KEY-----\n')
    expect(secrets.redact('+ echo AAAABBBB')).toBe(`+ echo ${REDACTED}`)
  })

  test('the longer of two secrets first', () => {
    secrets.add('swordfish')
    secrets.add('swordfish-2024')
    expect(secrets.redact('swordfish-2024 swordfish')).toBe(`${REDACTED} ${REDACTED}`)
  })

  test('not what is too short to be a secret', () => {
    secrets.add('no')
    expect(secrets.redact('nothing is known')).toBe('nothing is known')
  })

  test('through lists and objects, leaving other values alone', () => {
    secrets.add('hunter2')
    const date = new Date(0)
    expect(secrets.redactDeep({ a: ['x hunter2'], b: { c: 'hunter2', d: 1, e: null }, date })).toEqual({
      a: [`x ${REDACTED}`],
      b: { c: REDACTED, d: 1, e: null },
      date,
    })
  })
})
