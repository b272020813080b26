import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { OpenSshClient } from '../../../src/build/verify/openssh-client.ts'
import { ensureAuthority } from '../../../src/ssh/ca/authority.ts'
import { generateKeyPair } from '../../../src/ssh/openssh.ts'
import { pause, watched } from '../../core/paused.ts'
import { freePort, noSshd, processList, type Sshd, startSshd } from '../../ssh/sshd.ts'

/** What the real client makes of a real server's answers. */
describe.skipIf(noSshd)('OpenSSH’s client', () => {
  let sshd: Sshd
  let client: OpenSshClient
  beforeEach(async () => {
    sshd = await startSshd()
    client = await OpenSshClient.open({
      host: '127.0.0.1',
      port: sshd.port,
      hostKeys: [sshd.hostKey.publicKey],
    })
  })
  afterEach(async () => {
    vi.restoreAllMocks()
    await client[Symbol.asyncDispose]()
    await sshd[Symbol.asyncDispose]()
  })

  test('gets in by its key, and runs scripts without an argument that shows them', async () => {
    const key = await client.file('id', sshd.userKey.privateKey)
    expect((await client.attempt(sshd.username, { key })).outcome).toBe('accepted')
    const examiner = client.as(sshd.username, { key })
    const script = 'ps -e -o args= -ww; echo "$SECRET" >&2; exit 7'
    const env = { SECRET: 'not-in-arguments' }
    const answer = await examiner.run(script, { asRoot: false, env, seconds: 60 })
    expect(answer.exitCode).toBe(7)
    expect(answer.stderr).toBe('not-in-arguments\n')
    expect(answer.stdout).not.toContain('not-in-arguments')
    expect(await processList()).not.toContain('not-in-arguments')
  })

  test('is refused with another key and with a password, which is not the same as no answer', async () => {
    const { privateKey } = await generateKeyPair('stranger')
    const key = await client.file('stranger', privateKey)
    expect(await client.attempt(sshd.username, { key })).toMatchObject({
      outcome: 'refused',
      why: expect.stringContaining('Permission denied (publickey'),
    })
    expect((await client.attempt(sshd.username, { password: 'guess' })).outcome).toBe('refused')
    await sshd.stop()
    expect((await client.attempt(sshd.username, { key })).outcome).toBe('unreachable')
    await expect(
      client.as(sshd.username, { key }).run('true', { asRoot: false, seconds: 60 }),
    ).rejects.toMatchObject({
      code: 'build_failed',
      why: expect.stringContaining('refused'),
    })
  })

  test('tries again what came to no answer while this process has paused, and nothing that has begun', async () => {
    let calls = 0
    await using relay = await relayTo(sshd.port, (socket) => {
      calls += 1
      if (calls > 1) return true
      pause('stopped', 600)
      socket.destroy()
      return false
    })
    await using relayed = await OpenSshClient.open({
      host: '127.0.0.1',
      port: relay.port,
      hostKeys: [sshd.hostKey.publicKey],
    })
    using _watching = watched()
    const key = await relayed.file('id', sshd.userKey.privateKey)
    expect((await relayed.attempt(sshd.username, { key })).outcome).toBe('accepted')
    expect(calls).toBe(2)
    const examiner = relayed.as(sshd.username, { key })
    const running = examiner.run('echo begun; sleep 0.3; kill -9 $PPID', { asRoot: false, seconds: 60 })
    pause('stopped', 600)
    expect((await running).stdout).toBe('begun\n')
    expect(calls).toBe(3)
  })

  test('says so where the server has another host key', async () => {
    const other = await generateKeyPair('other')
    await using wary = await OpenSshClient.open({
      host: '127.0.0.1',
      port: sshd.port,
      hostKeys: [other.publicKey],
    })
    const key = await wary.file('id', sshd.userKey.privateKey)
    const { outcome, why } = await wary.attempt(sshd.username, { key })
    expect([outcome, why]).toEqual(['unreachable', expect.stringContaining('Host key verification failed')])
  })

  test('a command that denies permission is no refused login', async () => {
    const key = await client.file('id', sshd.userKey.privateKey)
    const script = 'echo "me@here: Permission denied (publickey)." >&2; exit 255'
    const { exitCode } = await client.as(sshd.username, { key }).run(script, { asRoot: false, seconds: 60 })
    expect(exitCode).toBe(255)
  })
})

test.skipIf(noSshd)(
  'certificates: the right principal gets in; a wrong, an expired and a revoked one do not',
  async () => {
    const folder = await mkdtemp(join(tmpdir(), 'imagebuild-ca-test-'))
    try {
      const authority = await ensureAuthority(join(folder, 'ca'))
      const pair = await generateKeyPair('case')
      const sign = (identity: string, principal: string, days: [number, number] = [-1, 1]) =>
        authority.signUser({
          publicKey: pair.publicKey,
          principals: [principal],
          identity,
          validity: {
            from: new Date(Date.now() + days[0] * 864e5),
            to: new Date(Date.now() + days[1] * 864e5),
          },
        })
      const revoked = await sign('revoked', 'root')
      await authority.revoke({ target: revoked })
      const cases = {
        right: await sign('right', 'root'),
        wrong: await sign('wrong', 'other'),
        expired: await sign('expired', 'root', [-3, -2]),
        revoked,
      }
      const trusted = join(folder, 'trusted')
      await writeFile(trusted, `${authority.userCa[0]}\n`)
      await writeFile(join(folder, 'krl'), await readFile(authority.revokedKeys))
      await using sshd = await startSshd({
        port: await freePort(),
        extra: `TrustedUserCAKeys ${trusted}\nRevokedKeys ${join(folder, 'krl')}`,
      })
      await using client = await OpenSshClient.open({
        host: '127.0.0.1',
        port: sshd.port,
        hostKeys: [sshd.hostKey.publicKey],
      })
      const key = await client.file('id', pair.privateKey)
      const outcomes: Record<string, string> = {}
      for (const [name, line] of Object.entries(cases)) {
        const certificate = await client.file(`${name}-cert.pub`, `${line}\n`)
        outcomes[name] = (await client.attempt('root', { key, certificate })).outcome
      }
      expect(outcomes).toEqual({
        right: 'accepted',
        wrong: 'refused',
        expired: 'refused',
        revoked: 'refused',
      })
    } finally {
      await rm(folder, { recursive: true, force: true })
    }
  },
)

/** Passes connections on, if the function says so. */
async function relayTo(
  port: number,
  isPassed: (socket: Socket) => boolean,
): Promise<AsyncDisposable & { port: number }> {
  const server = createServer((socket) => {
    socket.on('error', () => {})
    if (!isPassed(socket)) return
    const further = connect({ host: '127.0.0.1', port }).on('error', () => {})
    socket.pipe(further).pipe(socket)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return {
    port: (server.address() as AddressInfo).port,
    [Symbol.asyncDispose]: async () => {
      server.close()
    },
  }
}
