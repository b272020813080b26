import { spawn } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { execa } from 'execa'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { enterContainer } from '../../../src/build/verify/enter-container.ts'
import { OpenSshClient } from '../../../src/build/verify/openssh-client.ts'
import { findOwnKeys } from '../../../src/build/verify/own-keys.ts'
import { generateKeyPair, type KeyPair } from '../../../src/ssh/openssh.ts'
import { noSshd, startSshd } from '../../ssh/sshd.ts'

/** Real keys, a real agent, a real server; the keys of whoever runs the tests play no part. */
let folder: string
let pair: KeyPair
let publicKey: string
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'imagebuild own keys %h-'))
  pair = await generateKeyPair('own')
  publicKey = pair.publicKey.split(' ').slice(0, 2).join(' ')
  vi.stubEnv('SSH_AUTH_SOCK', '')
})
afterEach(async () => {
  vi.unstubAllEnvs()
  await rm(folder, { recursive: true, force: true })
})

async function keyFile(name: string, { publicKey, privateKey }: KeyPair): Promise<string> {
  await writeFile(join(folder, name), privateKey, { mode: 0o600 })
  await writeFile(join(folder, `${name}.pub`), `${publicKey}\n`)
  return join(folder, name)
}

async function startAgent(): Promise<AsyncDisposable> {
  const socket = join(folder, 'agent')
  const agent = spawn('ssh-agent', ['-D', '-a', socket], { stdio: 'ignore' })
  const ended = new Promise((done) => agent.once('exit', done))
  vi.stubEnv('SSH_AUTH_SOCK', socket)
  await expect.poll(async () => (await execa('ssh-add', ['-l'], { reject: false })).exitCode).toBe(1)
  return {
    [Symbol.asyncDispose]: async () => {
      agent.kill()
      await ended
    },
  }
}

const wanted = (user = 'root') => [{ user, publicKey }]

test('nothing is looked for where nothing is wanted; what is not here is told by user and fingerprint', async () => {
  expect(await findOwnKeys([], { folder })).toEqual({ logins: [], without: '' })
  await keyFile('id_ed25519', await generateKeyPair('another'))
  expect(await findOwnKeys(wanted('ada'), { folder })).toEqual({
    logins: [],
    without: expect.stringMatching(/^ada’s key SHA256:\S+ is neither in ssh-agent here nor in \//),
  })
})

test('a file is found by the public key beside it, whatever its name; a copy that is locked does not count', async () => {
  const file = await keyFile('lab', pair)
  const locked = await keyFile('a-locked', pair)
  await execa('ssh-keygen', ['-q', '-p', '-N', 'correct horse', '-f', locked])
  expect(await findOwnKeys(wanted(), { folder })).toEqual({ logins: [{ ...wanted()[0], file }], without: '' })
  await rm(file)
  expect(await findOwnKeys(wanted(), { folder })).toEqual({
    logins: [],
    without: expect.stringContaining(`has a passphrase: ssh-add ${locked}`),
  })
})

describe.skipIf(noSshd)('a container', () => {
  const door = async () => {
    const sshd = await startSshd()
    const { port, hostKey, directory } = sshd
    await writeFile(join(directory, 'authorized_keys'), `${publicKey}\n`)
    const client = await OpenSshClient.open({ host: '127.0.0.1', port, hostKeys: [hostKey.publicKey] })
    return {
      client,
      [Symbol.asyncDispose]: async () => {
        await client[Symbol.asyncDispose]()
        await sshd[Symbol.asyncDispose]()
      },
    }
  }
  const own = { key: '/nonexistent', publicKey: '', name: 'ib-verify-a-web' }
  const { signal } = new AbortController()

  test('is entered by a key in a file, whose path means something to ssh; no copy of it is made', async () => {
    const file = await keyFile('id', pair)
    await using entered = await door()
    const keys = await findOwnKeys(wanted(), { folder })
    const found = await enterContainer(entered.client, { keys: keys.logins, without: '' }, own, signal)
    if ('outside' in found) throw new Error(found.outside)
    expect(found).toMatchObject({ user: 'root', by: { key: expect.any(String) } })
    const { stdout } = await entered.client
      .as('root', found.by)
      .run('id -u', { asRoot: true, seconds: 60, signal })
    expect(stdout).toBe('0\n')
    expect((await execa('readlink', [found.by.key])).stdout).toBe(file)
  })

  test('is entered by a key that an agent holds, without the file', async () => {
    await using _agent = await startAgent()
    await execa('ssh-add', ['-q', '-'], { input: pair.privateKey })
    await using entered = await door()
    const keys = await findOwnKeys(wanted(), { folder })
    expect(keys).toEqual({ logins: wanted(), without: '' })
    const found = await enterContainer(entered.client, { keys: keys.logins, without: '' }, own, signal)
    expect(found).toMatchObject({ user: 'root', by: { agent: true } })
  })

  test('that refuses the key is seen from outside, and nothing is wrong with it', async () => {
    const stranger = await generateKeyPair('stranger')
    const file = await keyFile('id', stranger)
    await using entered = await door()
    const keys = [{ user: 'root', publicKey: stranger.publicKey, file }]
    const found = await enterContainer(entered.client, { keys, without: 'ada’s key is away' }, own, signal)
    expect(found).toEqual({
      outside: expect.stringMatching(
        /no CA whose key is at hand.*root, whose key SHA256:\S+ is at hand, is not let in: .*Permission denied.*; ada’s key is away$/s,
      ),
      refused: false,
    })
  })
})
