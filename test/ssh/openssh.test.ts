import { execFileSync } from 'node:child_process'
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { fingerprint, parseHostKeyPin } from '../../src/ssh/host-key.ts'
import { generateKeyPair, knownHostsLine } from '../../src/ssh/openssh.ts'

let directory: string
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'imagebuild-openssh-'))
})
afterEach(() => rm(directory, { recursive: true, force: true }))

const keygen = (...args: string[]) => execFileSync('ssh-keygen', args, { encoding: 'utf8' })

describe('key pairs', () => {
  test('are ed25519, fit together, and leave no file', async () => {
    const before = (await readdir(tmpdir())).filter((name) => name.startsWith('imagebuild-key-'))
    const { privateKey, publicKey } = await generateKeyPair('run 1')
    const after = (await readdir(tmpdir())).filter((name) => name.startsWith('imagebuild-key-'))
    expect(after.filter((name) => !before.includes(name))).toEqual([])
    expect(publicKey).toMatch(/^ssh-ed25519 \S+ run 1$/)
    const file = join(directory, 'key')
    await writeFile(file, privateKey, { mode: 0o600 })
    expect(keygen('-y', '-f', file).trim()).toBe(publicKey)
  })

  test('differ each time', async () => {
    const [one, two] = await Promise.all([generateKeyPair('x'), generateKeyPair('x')])
    expect(one.privateKey).not.toBe(two.privateKey)
  })

  test('an abort is the signal’s reason', async () => {
    const reason = new Error('interrupted')
    await expect(generateKeyPair('x', AbortSignal.abort(reason))).rejects.toBe(reason)
  })
})

describe('fingerprints and known_hosts', () => {
  test.each(['ed25519', 'ecdsa', 'rsa'])('of %s are those of ssh-keygen', async (type) => {
    const file = join(directory, 'key')
    keygen('-q', '-t', type, '-N', '', '-f', file)
    const line = execFileSync('cat', [`${file}.pub`], { encoding: 'utf8' })
    expect(keygen('-l', '-f', `${file}.pub`).split(' ')[1]).toBe(fingerprint(line))
    const pin = parseHostKeyPin(line)
    expect(pin.fingerprint).toBe(fingerprint(line))
    expect(pin.matches(Buffer.from(line.split(' ')[1] as string, 'base64'))).toBe(true)
    expect(pin.matches(Buffer.from('other'))).toBe(false)
    expect(
      parseHostKeyPin(pin.fingerprint).matches(Buffer.from(line.split(' ')[1] as string, 'base64')),
    ).toBe(true)
    expect(pin.algorithms[0]).toMatch(type === 'rsa' ? /^rsa-sha2-512$/ : new RegExp(type))
  })

  test.each([22, 2222])('ssh-keygen finds the host in our known_hosts line, port %d', async (port) => {
    const { publicKey } = await generateKeyPair('host')
    const file = join(directory, 'known_hosts')
    await writeFile(file, knownHostsLine('192.0.2.7', port, publicKey))
    const found = keygen('-F', port === 22 ? '192.0.2.7' : `[192.0.2.7]:${port}`, '-f', file)
    expect(found).toContain(publicKey.split(' ')[1])
    expect(found).not.toContain('host ')
  })

  test.each(['', 'ssh-ed25519', 'ssh-ed25519 AAAA', 'SHA256:short', 'ssh-dss AAAAB3NzaC1kc3M='])(
    'a pin that is none is refused: %j',
    (text) => {
      expect(() => parseHostKeyPin(text)).toThrow(/pinned SSH host key/)
    },
  )
})
