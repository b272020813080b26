import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { failureAsJson, failureInShort, renderFailure } from '../../src/cli/failure.ts'
import { guardOutput } from '../../src/cli/output.ts'
import { ImagebuildError } from '../../src/core/errors.ts'
import { REDACTED, SecretRegistry } from '../../src/core/secrets.ts'

beforeEach(() => {
  vi.stubEnv('NO_COLOR', '1')
  vi.stubEnv('FORCE_COLOR', undefined)
})
afterEach(() => {
  vi.unstubAllEnvs()
  guardOutput(new SecretRegistry())
})

describe('a failure', () => {
  const cause = new Error('the cause')
  const error = new ImagebuildError({
    code: 'build_failed',
    what: 'layer “install” failed',
    where: { file: 'images/web/image.yaml', line: 12, column: 5 },
    why: 'it ended with exit code 3\nafter a while',
    output: ['first', '\x1b[31mlast\x1b[0m\x1b[2J'],
    next: 'mend the script',
    cause,
  })

  test('says what, where, why, the last output and what to do', () => {
    expect(renderFailure(error, { debug: false })).toBe(
      [
        'error: layer “install” failed',
        '  at images/web/image.yaml:12:5',
        '  it ended with exit code 3',
        '  after a while',
        '',
        '  | first',
        '  | last',
        '',
        '  → mend the script',
        '',
      ].join('\n'),
    )
  })

  test('with what is known alone', () => {
    expect(renderFailure(new ImagebuildError({ code: 'usage', what: 'no' }), { debug: false })).toBe(
      'error: no\n',
    )
  })

  test('names who was talked to, unless that has nothing to do with it', () => {
    const options = { debug: false, talksTo: 'Proxmox VE 9.2.11 (target site)' }
    expect(renderFailure(error, options)).toContain(
      '\n  on Proxmox VE 9.2.11 (target site)\n  → mend the script\n',
    )
    const usage = new ImagebuildError({ code: 'usage', what: 'no' })
    expect(renderFailure(usage, options)).toBe('error: no\n')
  })

  test('in JSON, too', () => {
    const on = 'Proxmox VE 9.2.11 (target site)'
    expect(failureAsJson(error, on)).toEqual({ ...error.toJSON(), on })
    const usage = new ImagebuildError({ code: 'usage', what: 'no' })
    expect(failureAsJson(usage, on)).toEqual(usage.toJSON())
    expect(failureAsJson(error, undefined)).toEqual(error.toJSON())
  })

  test('in five lines, for the end of a log', () => {
    expect(failureInShort(error)).toBe(
      [
        'error: layer “install” failed',
        '  at images/web/image.yaml:12:5',
        '  it ended with exit code 3 after a while',
        '  | last',
        '  → mend the script',
        '',
      ].join('\n'),
    )
    const long = new ImagebuildError({ code: 'busy', what: 'x'.repeat(9999), why: 'a\nb\n'.repeat(99) })
    expect(failureInShort(long).split('\n')).toHaveLength(3)
    expect(failureInShort(long).length).toBeLessThan(700)
  })

  test('steers no terminal by any of its parts', () => {
    const evil = (text: string) => `${text}\x1b\x1b[0m]0;owned\x07`
    const hostile = new ImagebuildError({
      code: 'build_failed',
      what: evil('what'),
      where: { file: evil('file'), line: 1, column: 1 },
      why: evil('why'),
      output: [evil('output')],
      next: evil('next'),
    })
    for (const text of [
      renderFailure(hostile, { debug: true, talksTo: evil('server') }),
      failureInShort(hostile),
    ]) {
      expect(text.replaceAll('\n', '')).not.toMatch(/\p{Cc}/u)
    }
  })

  describe('shows no secret', () => {
    const secrets = new SecretRegistry()
    secrets.add('correct horse battery')
    const broken = ['+ login correct ho', 'rse battery', 'refused']
    const what = 'layer “install” failed'

    test('that is broken over two lines, however the lines are told', () => {
      guardOutput(secrets)
      const quoting = new ImagebuildError({
        ...{ code: 'build_failed', what, why: broken.join('\n'), output: broken },
        next: broken.join('\n'),
      })
      expect(renderFailure(quoting, { debug: false })).toBe(
        [
          `error: ${what}`,
          ...[`  + login ${REDACTED}`, `  ${REDACTED}`, '  refused'],
          ...['', `  | + login ${REDACTED}`, `  | ${REDACTED}`, '  | refused', ''],
          ...[`  → + login ${REDACTED}`, REDACTED, 'refused', ''],
        ].join('\n'),
      )
      const line = `+ login ${REDACTED} ${REDACTED} refused`
      expect(failureInShort(quoting)).toBe(`error: ${what}\n  ${line}\n  | refused\n  → ${line}\n`)
    })

    test('whose second half is all that is told of the output', () => {
      guardOutput(secrets)
      const quoting = new ImagebuildError({ code: 'build_failed', what, output: broken.slice(0, 2) })
      expect(failureInShort(quoting)).toBe(`error: ${what}\n  | ${REDACTED}\n`)
    })

    test('that a short line would be cut in', () => {
      guardOutput(secrets)
      for (let before = 280; before < 300; before++) {
        const why = `${'x'.repeat(before)} correct horse battery`
        const quoting = new ImagebuildError({ code: 'build_failed', what, why })
        expect(failureInShort(quoting)).not.toContain('correct')
      }
    })
  })

  test('with all stacks for who debugs', () => {
    const text = renderFailure(error, { debug: true })
    expect(text).toContain('ImagebuildError: layer “install” failed')
    expect(text).toContain('caused by Error: the cause')
  })
})
