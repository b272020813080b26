import { execa } from 'execa'
import { expect, test } from 'vitest'
import { takeInventory } from '../../../src/build/inventory/inventory.ts'
import { aBuild, FakeSession } from '../world.ts'

const SCRIPT = new URL('../../../src/build/inventory/inventory.sh', import.meta.url).pathname
const FACTS = { version: '20260701.1', digest: 'sha256:1234', user: 'imagebuild' }

test.each(['sh', 'dash', 'bash'])('the script is one for %s', async (shell) => {
  expect(await execa(shell, ['-n', SCRIPT], { reject: false })).toMatchObject({ exitCode: 0, stderr: '' })
})

test('a guest that cannot be asked, or does not stop telling, is no template', async () => {
  const refusing = new FakeSession(() => ({ code: 1, stderr: 'mktemp: No space left on device\n' }))
  await expect(takeInventory(aBuild(), refusing, FACTS)).rejects.toMatchObject({
    code: 'build_failed',
    why: 'inventory.sh ended with exit code 1',
    output: ['mktemp: No space left on device'],
  })
  expect(refusing.ran).toMatchObject([{ options: { sudo: true, env: { BUILD_USER: 'imagebuild' } } }])
  const endless = new FakeSession(() => ({ stdout: 'x'.repeat(9 * 2 ** 20) }))
  await expect(takeInventory(aBuild(), endless, FACTS)).rejects.toMatchObject({
    why: expect.stringContaining('more than 8388608 bytes'),
  })
})
