import { describe, expect, test } from 'vitest'
import { asImagebuildError, EXIT_CODES, ImagebuildError } from '../../src/core/errors.ts'
import { createBus, type Event, step } from '../../src/core/events.ts'
import { REDACTED, SecretRegistry } from '../../src/core/secrets.ts'

describe('the bus', () => {
  test('carries each event to all sinks, and no secret to any', () => {
    const secrets = new SecretRegistry()
    const [one, two]: [Event[], Event[]] = [[], []]
    const emit = createBus(secrets, [(event) => one.push(event), (event) => two.push(event)])
    // Resolved after the bus was made, as layers do.
    secrets.add('hunter2')
    emit({ type: 'output', image: 'web', step: 'layer', stream: 'stdout', line: 'password=hunter2' })
    emit({ type: 'leak', resource: 'VM 1', why: 'hunter2 is wrong', next: 'x' })
    const error = new ImagebuildError({
      code: 'build_failed',
      what: 'x',
      output: ['set to hunter2'],
    }).toJSON()
    const result = {
      image: 'web',
      status: 'failed',
      held: false,
      templates: [],
      seconds: 1,
      error,
    } as const
    emit({ type: 'run.end', schema: 1, results: [{ ...result, templates: [] }] })
    expect(one).toEqual(two)
    expect(one).toHaveLength(3)
    expect(JSON.stringify(one)).not.toContain('hunter2')
    expect(JSON.stringify(one)).toContain(`set to ${REDACTED}`)
  })
})

describe('a step', () => {
  const at = { image: 'web', step: 'boot', label: 'booting' }

  test('has a start, a result and an end', async () => {
    const events: Event[] = []
    expect(
      await step(
        (event) => events.push(event),
        at,
        async () => 7,
      ),
    ).toBe(7)
    expect(events).toEqual([
      { type: 'step.start', ...at },
      { type: 'step.end', ...at, ok: true, seconds: expect.any(Number) },
    ])
  })

  test('ends also when it fails', async () => {
    const events: Event[] = []
    const failing = step(
      (event) => events.push(event),
      at,
      () => Promise.reject(new Error('no')),
    )
    await expect(failing).rejects.toThrow('no')
    expect(events.at(-1)).toMatchObject({ type: 'step.end', ok: false })
  })
})

describe('errors', () => {
  test('exit codes are the ones that users rely on', () => {
    expect(EXIT_CODES).toEqual({
      build_failed: 1,
      not_found: 1,
      internal: 1,
      usage: 64,
      definition_invalid: 65,
      prerequisite_missing: 69,
      unreachable: 69,
      busy: 75,
      permission_denied: 77,
      interrupted: 130,
      terminated: 143,
    })
  })

  test('JSON has all facts and leaves out what is not known', () => {
    const where = { file: 'images/web/image.yaml', line: 3, column: 5 }
    const facts = {
      code: 'busy',
      what: 'it is held',
      where,
      why: 'by x',
      output: ['a'],
      next: 'wait',
    } as const
    expect(new ImagebuildError(facts).toJSON()).toEqual({ exitCode: 75, ...facts })
    expect(new ImagebuildError({ code: 'usage', what: 'no' }).toJSON()).toEqual({
      code: 'usage',
      exitCode: 64,
      what: 'no',
    })
  })

  test('what nobody foresaw is internal, with its cause; ours stay what they are', () => {
    const known = new ImagebuildError({ code: 'busy', what: 'x' })
    expect(asImagebuildError(known)).toBe(known)
    const odd = new TypeError('x is not a function')
    expect(asImagebuildError(odd)).toMatchObject({ code: 'internal', why: odd.message, cause: odd })
    expect(asImagebuildError('text')).toMatchObject({ code: 'internal', why: 'text' })
  })
})
