import { expect, test } from 'vitest'
import { interruptible } from '../../ci/interruptible.ts'

test('who interrupts does not wait for what never ends', async () => {
  const controller = new AbortController()
  const waiting = interruptible(new Promise(() => {}), controller.signal)
  controller.abort(new Error('interrupted'))
  await expect(waiting).rejects.toThrow('interrupted')
  await expect(interruptible(new Promise(() => {}), controller.signal)).rejects.toThrow('interrupted')
})

test('otherwise the work’s own result counts', async () => {
  const { signal } = new AbortController()
  expect(await interruptible(Promise.resolve(1), signal)).toBe(1)
  await expect(interruptible(Promise.reject(new Error('its own')), signal)).rejects.toThrow('its own')
})
