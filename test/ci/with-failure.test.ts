import { expect, test } from 'vitest'
import { withFailureOf } from '../../ci/with-failure.ts'
import { ImagebuildError } from '../../src/core/errors.ts'

const refused = (error: unknown, what: string) =>
  new ImagebuildError({ code: 'unreachable', what, why: (error as Error).message })

test('an interruption does not wait for what never ends', async () => {
  const controller = new AbortController()
  const withFailure = withFailureOf(controller.signal, refused)
  const waiting = withFailure('nothing was read', new Promise(() => {}))
  controller.abort(new Error('interrupted'))
  await expect(waiting).rejects.toThrow('interrupted')
  await expect(withFailure('nothing was read', new Promise(() => {}))).rejects.toThrow('interrupted')
})

test('otherwise the call’s own result counts, and its failure says what was not done', async () => {
  const withFailure = withFailureOf(new AbortController().signal, refused)
  expect(await withFailure('it was not read', Promise.resolve(1))).toBe(1)
  const failing = withFailure('it was not read', Promise.reject(new Error('no route')))
  await expect(failing).rejects.toMatchObject({ what: 'it was not read', why: 'no route' })
})
