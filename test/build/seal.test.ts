import { readFile } from 'node:fs/promises'
import { execa } from 'execa'
import { expect, test } from 'vitest'
import type { Access } from '../../src/build/access.ts'
import { hardenAtLast, seal } from '../../src/build/seal.ts'
import { aBuild, FakeSession } from './world.ts'

const SCRIPT = new URL('../../src/build/seal.sh', import.meta.url)
const SSH_UNIT = new URL('../../src/build/ssh-unit.sh', import.meta.url)

const key = { privateKey: 'PRIVATE', publicKey: 'ssh-ed25519 AAAAC3Nza imagebuild-mine' }
const access: Access = { user: 'imagebuild', userKey: key as never, hostKey: key.publicKey }

test.each(
  ['sh', 'dash', 'bash'].flatMap((shell) => [SCRIPT, SSH_UNIT].map(({ pathname }) => [shell, pathname])),
)('for %s, %s is a script', async (shell, path) => {
  const { exitCode, stderr } = await execa(shell, ['-n', path], { reject: false })
  expect(stderr).toBe('')
  expect(exitCode).toBe(0)
})

test('it runs as root, knows which user and key were the build’s, and tells its lines', async () => {
  const session = new FakeSession(({ options }) => {
    options.onLine?.('stdout', 'trimmed')
    return {}
  })
  const build = aBuild()
  await seal(session, access, build)
  expect(session.ran).toMatchObject([
    { command: await readFile(SSH_UNIT, 'utf8'), options: { sudo: true, env: { ROOT: '' } } },
    {
      command: await readFile(SCRIPT, 'utf8'),
      options: {
        sudo: true,
        env: { BUILD_USER: 'imagebuild', BUILD_KEY: 'AAAAC3Nza', AND_THEN: 'poweroff' },
      },
    },
  ])
  expect(JSON.stringify(session.ran)).not.toContain('PRIVATE')
  const told = { type: 'output', step: 'seal', line: 'trimmed' }
  expect(build.events).toMatchObject([told, told])
})

test('what the plan wants at the very end may fail', async () => {
  const session = new FakeSession()
  await hardenAtLast(session, aBuild(), 'echo last\n')
  expect(session.ran.map(({ command }) => command)).toEqual(['set -eu\necho last\n'])
  const refusing = new FakeSession(({ command }) => ({ code: command.includes('echo last') ? 7 : 0 }))
  await expect(hardenAtLast(refusing, aBuild(), 'echo last\n')).rejects.toMatchObject({
    why: 'hardening at sealing ended with exit code 7',
  })
  expect(refusing.ran).toHaveLength(1)
})

test('a guest that cannot be sealed is no template', async () => {
  const session = new FakeSession(({ command }) =>
    command.includes('userdel') ? { code: 1, stderr: 'the user imagebuild could not be removed\n' } : {},
  )
  await expect(seal(session, access, aBuild())).rejects.toMatchObject({
    code: 'build_failed',
    why: 'seal.sh ended with exit code 1',
    output: expect.arrayContaining(['the user imagebuild could not be removed']),
  })
})
