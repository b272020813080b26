import { execFile, execFileSync } from 'node:child_process'
import { readFile, rm, writeFile } from 'node:fs/promises'
import { userInfo } from 'node:os'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Authority, createAuthority } from '../../../src/ssh/ca/authority.ts'
import { certAuthorityLines } from '../../../src/ssh/ca/known-hosts.ts'
import type { Validity } from '../../../src/ssh/ca/validity.ts'
import { generateKeyPair } from '../../../src/ssh/openssh.ts'
import { noSshd, type Sshd, startSshd } from '../sshd.ts'
import { type Scratch, scratch, startAgent } from './ca-folder.ts'

/** What it is all for: OpenSSH's own server and client take our certificates, and refuse what they must refuse. */
describe.skipIf(noSshd)('a real sshd', () => {
  const { username } = userInfo()
  const NAME = 'clone.example'
  let place: Scratch
  let ca: Authority
  let agentCa: Authority
  let sshd: Sshd
  let publicKey: string

  beforeAll(async () => {
    place = await scratch()
    ca = await createAuthority({ folder: place.path('ca'), passphrase: 'a passphrase' })
    {
      using agent = await startAgent(place.path('agent'))
      for (const name of ['user', 'host']) {
        execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-C', name, '-f', place.path(name)])
        agent.add(place.path(name))
      }
      const folder = place.path('agent-ca')
      agentCa = await createAuthority({ folder, agent: { user: 'user', host: 'host' } })
    }
    const hostKey = await generateKeyPair('host')
    const certificate = await ca.signHost({ publicKey: hostKey.publicKey, hostnames: [NAME], validity: 3600 })
    await writeFile(place.path('host_key'), hostKey.privateKey, { mode: 0o600 })
    await writeFile(place.path('host_key-cert.pub'), `${certificate}\n`)
    await writeFile(
      place.path('trusted'),
      [...ca.userCa, ...agentCa.userCa].map((key) => `${key}\n`).join(''),
    )
    sshd = await startSshd({
      extra: [
        `HostKey ${place.path('host_key')}`,
        `HostCertificate ${place.path('host_key-cert.pub')}`,
        `TrustedUserCAKeys ${place.path('trusted')}`,
        `RevokedKeys ${ca.revokedKeys}`,
      ].join('\n'),
    })
    const user = await generateKeyPair('user')
    publicKey = user.publicKey
    await writeFile(place.path('id'), user.privateKey, { mode: 0o600 })
  })
  afterAll(async () => {
    await sshd?.[Symbol.asyncDispose]()
    await place?.[Symbol.asyncDispose]()
  })

  interface Login {
    certificate?: string
    name?: string
    knownHosts?: string
    options?: string[]
  }

  /** One login by the real ssh, which may ask nobody anything: `in`, or the last words. */
  async function login(login: Login): Promise<string> {
    const { certificate, name = NAME, knownHosts = certAuthorityLines(ca.hostCa), options = [] } = login
    await writeFile(place.path('known_hosts'), knownHosts)
    const files = [`UserKnownHostsFile=${place.path('known_hosts')}`, 'GlobalKnownHostsFile=/dev/null']
    // Ssh takes what lies beside the key, asked or not.
    await rm(place.path('id-cert.pub'), { force: true })
    if (certificate !== undefined) {
      await writeFile(place.path('id-cert.pub'), `${certificate}\n`)
      files.push(`CertificateFile=${place.path('id-cert.pub')}`)
    }
    const settings = [
      ...files,
      ...['BatchMode=yes', 'StrictHostKeyChecking=yes', 'IdentitiesOnly=yes', 'IdentityAgent=none'],
      ...[`HostKeyAlias=${name}`, `IdentityFile=${place.path('id')}`, 'ConnectTimeout=20', ...options],
    ]
    const target = ['-p', String(sshd.port), `${username}@127.0.0.1`, 'echo in']
    try {
      const options = settings.flatMap((setting) => ['-o', setting])
      return (await promisify(execFile)('ssh', ['-F', '/dev/null', ...options, ...target])).stdout.trim()
    } catch (error) {
      return (error as { stderr: string }).stderr.trim()
    } finally {
      // Nothing was trusted on first use.
      expect(await readFile(place.path('known_hosts'), 'utf8')).toBe(knownHosts)
    }
  }

  const sign = (change: { principals?: string[]; validity?: Validity } = {}) =>
    ca.signUser({ publicKey, identity: 'test', principals: [username], validity: 3600, ...change })

  const ago = (hours: number) => new Date(Date.now() - hours * 3_600_000)
  const DENIED = /Permission denied \(publickey/

  test('lets the right principal in, and the client believes the host by its certificate', async () => {
    expect(await login({ certificate: await sign() })).toBe('in')
  })

  test('refuses the key without a certificate', async () => {
    expect(await login({})).toMatch(DENIED)
  })

  test('refuses another principal', async () => {
    expect(await login({ certificate: await sign({ principals: ['somebody'] }) })).toMatch(DENIED)
  })

  test('refuses what is no longer, or not yet, valid', async () => {
    const expired = await sign({ validity: { from: ago(3), to: ago(2) } })
    expect(await login({ certificate: expired })).toMatch(DENIED)
    const early = await sign({ validity: { from: ago(-2), to: ago(-3) } })
    expect(await login({ certificate: early })).toMatch(DENIED)
    const now = await sign({ validity: { from: ago(1), to: ago(-1) } })
    expect(await login({ certificate: now })).toBe('in')
  })

  test('refuses a certificate of another CA', async () => {
    const other = await createAuthority({ folder: place.path('other') })
    const request = { publicKey, identity: 'test', principals: [username], validity: 3600 }
    expect(await login({ certificate: await other.signUser(request) })).toMatch(DENIED)
  })

  test('refuses a revoked certificate at once, and no other', async () => {
    const [revoked, other] = [await sign(), await sign()]
    expect(await login({ certificate: revoked })).toBe('in')
    await ca.revoke({ target: revoked, reason: 'test' })
    expect(await login({ certificate: revoked })).toMatch(DENIED)
    expect(await login({ certificate: other })).toBe('in')
  })

  test('lets in by a CA whose key ssh-agent holds', async () => {
    using agent = await startAgent(place.path('agent'))
    agent.add(place.path('user'))
    const request = { publicKey, identity: 'test', principals: [username], validity: 3600 }
    expect(await login({ certificate: await agentCa.signUser(request) })).toBe('in')
  })

  test('is not believed under a name that its certificate lacks, or by another CA', async () => {
    const certificate = await sign()
    const refused = /Host key verification failed/
    expect(await login({ certificate, name: 'other.example' })).toMatch(refused)
    expect(await login({ certificate, knownHosts: certAuthorityLines(agentCa.hostCa) })).toMatch(refused)
    expect(await login({ certificate, knownHosts: certAuthorityLines(ca.hostCa, ['*.test']) })).toMatch(
      refused,
    )
    expect(
      await login({ certificate, knownHosts: certAuthorityLines(ca.hostCa, ['*.test', '*.example']) }),
    ).toBe('in')
    // A user CA vouches for nobody's host.
    expect(await login({ certificate, knownHosts: certAuthorityLines(ca.userCa) })).toMatch(refused)
  })

  test('is not believed once its key is revoked', async () => {
    const certificate = await sign()
    const hostKey = execFileSync('ssh-keygen', ['-y', '-f', place.path('host_key')], { encoding: 'utf8' })
    const options = [`RevokedHostKeys=${ca.revokedKeys}`]
    expect(await login({ certificate, options })).toBe('in')
    await ca.revoke({ target: hostKey.trim() })
    expect(await login({ certificate, options })).toMatch(/revoked/)
  })
})
