import { describe, expect, test } from 'vitest'
import { awaitPreparation } from '../../src/build/preparation.ts'
import { ImagebuildError } from '../../src/core/errors.ts'
import { DeadlineError } from '../../src/core/scope.ts'
import { aBuild, FakeSession } from './world.ts'

const LOST = new ImagebuildError({
  code: 'build_failed',
  what: 'the SSH connection to the guest was lost',
})

describe('a container that installs its SSH server itself', () => {
  test('is waited for over a new connection where ifupdown has ended the first', async () => {
    const session = new FakeSession(() => (session.reconnects === 0 ? Promise.reject(LOST) : { code: 0 }))
    await awaitPreparation(aBuild(), session)
    expect(session.reconnects).toBe(1)
    expect(session.ran).toHaveLength(2)
  })

  test('fails where the new connection is lost, too', async () => {
    const session = new FakeSession(() => Promise.reject(LOST))
    await expect(awaitPreparation(aBuild(), session)).rejects.toBe(LOST)
    expect(session.reconnects).toBe(1)
  })

  test('is not waited for a second time where it takes too long', async () => {
    const late = new ImagebuildError({ code: 'build_failed', what: 'late', cause: new DeadlineError('late') })
    const session = new FakeSession(() => Promise.reject(late))
    await expect(awaitPreparation(aBuild(), session)).rejects.toBe(late)
    expect(session.reconnects).toBe(0)
  })

  test('fails with the last lines of what it could not install', async () => {
    const session = new FakeSession(() => ({ code: 1, stdout: 'E: Unable to fetch\n' }))
    await expect(awaitPreparation(aBuild(), session)).rejects.toMatchObject({
      code: 'build_failed',
      output: ['E: Unable to fetch'],
    })
    expect(session.reconnects).toBe(0)
  })
})
