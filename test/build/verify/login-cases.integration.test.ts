import { describe, expect, test } from 'vitest'
import { tryCases } from '../../../src/build/verify/login-cases.ts'
import { OpenSshClient } from '../../../src/build/verify/openssh-client.ts'
import { generateKeyPair } from '../../../src/ssh/openssh.ts'
import { noSshd, startSshd } from '../../ssh/sshd.ts'

/** Against a real server that lets in one key. */
describe.skipIf(noSshd)('logins without certificates', () => {
  async function outcomes(listed: boolean): Promise<Record<string, string>> {
    await using sshd = await startSshd()
    const { port, hostKey, userKey, username: user } = sshd
    await using client = await OpenSshClient.open({ host: '127.0.0.1', port, hostKeys: [hostKey.publicKey] })
    const [own, other] = [userKey, await generateKeyPair('stranger')]
    const right = { key: await client.file('right', (listed ? own : other).privateKey) }
    const stranger = { key: await client.file('stranger', other.privateKey) }
    const signal = new AbortController().signal
    const results = await tryCases({ client, user, checks: [], signal }, 'control', right, [
      ['plain-key', stranger],
      ['password', { password: 'guess' }],
    ])
    return Object.fromEntries(results.map(({ id, outcome }) => [id, outcome]))
  }

  test('a stranger’s key and a password are refused, before and after which the right key lets in', async () => {
    expect(await outcomes(true)).toEqual({ 'plain-key': 'passed', password: 'passed', control: 'passed' })
  })

  test('where the right key is refused too, a refusal proves nothing', async () => {
    expect(await outcomes(false)).toEqual({ 'plain-key': 'skipped', password: 'skipped', control: 'failed' })
  })
})
