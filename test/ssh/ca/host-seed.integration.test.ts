import { execFile } from 'node:child_process'
import { readFile, writeFile } from 'node:fs/promises'
import { userInfo } from 'node:os'
import { promisify } from 'node:util'
import { load } from 'js-yaml'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { noSshd, type Sshd, startSshd } from '../sshd.ts'
import { type Scratch, scratch } from './ca-folder.ts'

const MAIN = new URL('../../../src/cli/main.ts', import.meta.url).pathname

/** What `ssh-ca host-seed` prints, given to sshd as cloud-init gives it (cc_ssh), and a client that knows the CA alone. */
describe.skipIf(noSshd)('a host key of host-seed in a real sshd', () => {
  let place: Scratch
  let sshd: Sshd

  beforeAll(async () => {
    place = await scratch()
    for (const ca of ['ca', 'other-ca']) {
      await sshCa(ca, 'init', '--no-passphrase')
      await writeFile(
        place.path(`${ca}.known_hosts`),
        await sshCa(ca, 'known-hosts', '--domain', '*.example'),
      )
    }
    await writeFile(place.path('everywhere.known_hosts'), await sshCa('ca', 'known-hosts'))
    const printed = await sshCa('ca', 'host-seed', 'web.example', '--alias', '127.0.0.1')
    const { ssh_keys: keys } = load(printed) as { ssh_keys: Record<string, string> }
    const { ed25519_private: privateKey = '', ed25519_public: publicKey = '' } = keys
    const certificate = place.path('host-cert.pub')
    await writeFile(certificate, keys.ed25519_certificate ?? '')
    sshd = await startSshd({ hostKey: { privateKey, publicKey }, extra: `HostCertificate ${certificate}` })
    await writeFile(place.path('id'), sshd.userKey.privateKey, { mode: 0o600 })
  })
  afterAll(async () => {
    await sshd?.[Symbol.asyncDispose]()
    await place?.[Symbol.asyncDispose]()
  })

  async function sshCa(ca: string, command: string, ...options: string[]): Promise<string> {
    const argv = [MAIN, 'ssh-ca', command, ...options, '--folder', place.path(ca)]
    return (await promisify(execFile)(process.execPath, argv)).stdout
  }

  /** `in`, or ssh's last words. */
  async function login(knownHosts: string, ...options: string[]): Promise<string> {
    const file = place.path(`${knownHosts}.known_hosts`)
    const before = await readFile(file, 'utf8')
    expect(before).toMatch(/^@cert-authority \S+ ssh-ed25519 [^\n]*\n$/)
    const settings = [
      ...['BatchMode=yes', 'StrictHostKeyChecking=yes', 'IdentitiesOnly=yes', 'IdentityAgent=none'],
      ...[`UserKnownHostsFile=${file}`, 'GlobalKnownHostsFile=/dev/null', 'ConnectTimeout=20'],
      ...[`IdentityFile=${place.path('id')}`, `Port=${sshd.port}`, ...options],
    ].flatMap((setting) => ['-o', setting])
    const argv = ['-F', '/dev/null', ...settings, `${userInfo().username}@127.0.0.1`, 'echo in']
    const said = await promisify(execFile)('ssh', argv).then(
      ({ stdout }) => stdout,
      (error: { stderr: string }) => error.stderr,
    )
    expect(await readFile(file, 'utf8')).toBe(before)
    return said.trim()
  }

  const refused = /Host key verification failed/

  test('is believed by the name, without a question', async () => {
    expect(await login('ca', 'HostKeyAlias=web.example')).toBe('in')
  })

  test('is believed by the address that is an alias, where the CA may speak for it', async () => {
    expect(await login('everywhere')).toBe('in')
    expect(await login('ca')).toMatch(refused)
  })

  test('is refused under another name, and by who trusts another CA', async () => {
    expect(await login('ca', 'HostKeyAlias=db.example')).toMatch(refused)
    expect(await login('other-ca', 'HostKeyAlias=web.example')).toMatch(refused)
  })
})
