import { execFileSync, spawn, spawnSync } from 'node:child_process'
import { chmod, mkdir, readdir, readFile, stat, writeFile } from 'node:fs/promises'
import { load } from 'js-yaml'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { generateKeyPair } from '../../src/ssh/openssh.ts'
import { type Scratch, scratch } from '../ssh/ca/ca-folder.ts'
import { cli } from './captured.ts'

let place: Scratch
let folder: string
let key: string
beforeEach(async () => {
  for (const name of Object.keys(process.env)) if (name.startsWith('IMAGEBUILD_')) vi.stubEnv(name, undefined)
  vi.stubEnv('NO_COLOR', '1')
  place = await scratch()
  folder = place.path('ca')
  key = place.path('id.pub')
  await writeFile(key, `${(await generateKeyPair('alice@laptop')).publicKey}\n`)
})
afterEach(async () => {
  vi.unstubAllEnvs()
  await place[Symbol.asyncDispose]()
})

const sshCa = (...argv: string[]) => cli('ssh-ca', ...argv, '--folder', folder)
const init = () => sshCa('init', '--no-passphrase')
const described = (file: string) => execFileSync('ssh-keygen', ['-L', '-f', file], { encoding: 'utf8' })

const MAIN = new URL('../../src/cli/main.ts', import.meta.url).pathname

describe('init', () => {
  test('says what it made, and is done once', async () => {
    const { code, stdout, stderr } = await init()
    expect(code).toBe(0)
    expect(stdout).toMatch(/^user CA 1: SHA256:\S+\nhost CA 1: SHA256:\S+\n$/)
    expect(stderr).toContain(`${folder}/user_ca.pub`)
    const again = await init()
    expect(again.code).toBe(64)
    expect(again.stderr).toMatch(/already[\s\S]*→ .*rotate/)
  })

  test.each([
    [[], /nobody can be asked[\s\S]*no terminal[\s\S]*--no-passphrase/],
    [['--passphrase', 'my secret'], /wants a reference/],
    [['--passphrase', 'env:NOT_SET'], /NOT_SET is not set/],
    [['--agent-key', 'one'], /given twice/],
    [['--agent-key', 'a', '--agent-key', 'b', '--no-passphrase'], /without a passphrase/],
  ])('%j is refused, and leaves nothing', async (argv, message) => {
    const { code, stderr, stdout } = await sshCa('init', ...argv)
    expect(code).toBeGreaterThan(0)
    expect(stderr).toMatch(message)
    expect(stderr + stdout).not.toContain('my secret')
    expect(await readdir(place.path())).toEqual(['id.pub'])
  })

  test('takes a passphrase by reference, which later signing wants too', async () => {
    vi.stubEnv('CA_PASSPHRASE', 'open sesame')
    expect(await sshCa('init', '--passphrase', 'env:CA_PASSPHRASE')).toMatchObject({ code: 0 })
    const sign = ['sign-user', key, '--principal', 'alice']
    const without = await sshCa(...sign)
    expect(without).toMatchObject({ code: 64, stderr: expect.stringContaining('--passphrase env:NAME') })
    await writeFile(place.path('wrong'), 'close sesame\n')
    const wrong = await sshCa(...sign, '--passphrase', `file:${place.path('wrong')}`)
    expect(wrong).toMatchObject({ code: 77, stderr: expect.stringContaining('passphrase is wrong') })
    expect(await sshCa(...sign, '--passphrase', 'env:CA_PASSPHRASE')).toMatchObject({ code: 0 })
  })

  test('asks on a terminal, twice, and shows nothing of it', async () => {
    const shown = await onTerminal(
      [process.execPath, MAIN, 'ssh-ca', 'init', '--folder', folder],
      ['open sesame', 'open sesame'],
    )
    expect(shown).toMatch(/new passphrase[\s\S]*once more[\s\S]*user CA 1/)
    expect(shown).not.toContain('sesame')
    vi.stubEnv('CA_PASSPHRASE', 'open sesame')
    const sign = ['sign-user', key, '--principal', 'alice', '--passphrase', 'env:CA_PASSPHRASE']
    expect(await sshCa(...sign)).toMatchObject({ code: 0 })
  })

  test('asks again of who mistypes, making nothing', async () => {
    const command = [process.execPath, MAIN, 'ssh-ca', 'init', '--folder', folder]
    expect(await onTerminal(command, ['open sesame', 'open sesam'])).toContain('passphrases differ')
    expect(await readdir(place.path())).toEqual(['id.pub'])
  })
})

describe('signing', () => {
  test('puts the certificate beside the key, for a working day', async () => {
    await init()
    const { code, stdout } = await sshCa(
      'sign-user',
      key,
      '--principal',
      'alice,admins',
      '--principal',
      'root',
    )
    expect(code).toBe(0)
    const file = place.path('id-cert.pub')
    expect(stdout).toContain(`${file}: user certificate 1 for alice, admins, root, until `)
    expect(described(file)).toMatch(/Key ID: "alice@laptop"[\s\S]*alice\n\s+admins\n\s+root\n/)
    const { certificates } = JSON.parse((await sshCa('show', '--json')).stdout)
    const [{ validFrom, validTo }] = certificates
    // And five minutes before it was asked for.
    expect(Date.parse(validTo) - Date.parse(validFrom)).toBe((8 * 60 + 5) * 60_000)
  })

  test('hosts, for a year, to stdout and nowhere else', async () => {
    await init()
    const { stdout } = await sshCa('sign-host', key, '--hostname', 'web,web.example', '--out', '-')
    expect(stdout).toMatch(/^ssh-ed25519-cert-v01@openssh.com \S+ alice@laptop\n$/)
    expect((await readdir(place.path())).sort()).toEqual(['ca', 'id.pub'])
    const out = place.path('out')
    await sshCa('sign-host', key, '--hostname', 'web', '--out', out, '--validity', '1w')
    expect(described(out)).toContain('host certificate')
    expect(execFileSync('ls', ['-A', place.path()], { encoding: 'utf8' })).toBe('ca\nid.pub\nout\n')
  })

  test.each([
    [['sign-user', 'KEY'], /without principals/],
    [['sign-user', 'KEY', '--principal', 'a', '--validity', 'soon'], /cannot be valid for soon[\s\S]*8h/],
    [['sign-user', 'KEY', '--principal', 'a', '--option', 'nonsense'], /nonsense/],
    [
      ['sign-user', 'nowhere.pub', '--principal', 'a'],
      /nowhere.pub is no public key[\s\S]*→ ssh-keygen -t ed25519 -f nowhere makes/,
    ],
    [['sign-user', 'PRIVATE', '--principal', 'a'], /it is a private key/],
    [['sign-user', 'TEXT', '--principal', 'a'], /is no public key/],
    [['sign-user', 'KEY', '--principal', 'a', '--out', '/nowhere/x'], /cannot be written[\s\S]*--out/],
    [['sign-user', 'KEY', '--principal', 'a', '--generation', 'x'], /must be a number/],
    [['sign-host', 'KEY', '--hostname', '*.example'], /one by one/],
    [['sign-host', 'KEY'], /without host names/],
    [['revoke', 'nowhere.pub'], /nowhere.pub is no public key/],
    [['retire', '1'], /is the one that signs/],
    [['known-hosts', '--domain', 'a b'], /no pattern/],
  ])('%j ends with 64 and says what to do', async (argv, message) => {
    await init()
    await writeFile(place.path('private'), (await generateKeyPair('x')).privateKey)
    await writeFile(place.path('text'), 'hello\n')
    const files: Record<string, string> = {
      KEY: key,
      PRIVATE: place.path('private'),
      TEXT: place.path('text'),
    }
    const { code, stdout, stderr } = await sshCa(...argv.map((word) => files[word] ?? word))
    expect(stderr).toMatch(message)
    expect(code).toBe(64)
    expect(stdout).toBe('')
  })

  test('where there is no CA ends with 1 and says how to make one', async () => {
    for (const argv of [
      ['show'],
      ['public'],
      ['known-hosts'],
      ['rotate'],
      ['revoke', '1'],
      ['host-seed', 'web'],
    ]) {
      const { code, stderr } = await sshCa(...argv)
      expect(stderr).toMatch(/there is no SSH CA in .*[\s\S]*ssh-ca init/)
      expect(code).toBe(1)
    }
  })
})

describe('what others need', () => {
  test('public keys and known_hosts lines, through a rotation', async () => {
    await init()
    await sshCa('rotate', '--no-passphrase')
    const trusted = (await sshCa('public')).stdout
    expect(trusted).toBe(await readFile(`${folder}/user_ca.pub`, 'utf8'))
    expect(trusted).toMatch(/^ssh-ed25519 \S+ imagebuild user CA 2\nssh-ed25519 \S+ imagebuild user CA 1\n$/)
    const known = (await sshCa('known-hosts', '--domain', '*.example', '--domain', '192.0.2.*')).stdout
    expect(known).toMatch(
      /^(@cert-authority \*\.example,192\.0\.2\.\* ssh-ed25519 \S+ imagebuild host CA \d\n){2}$/,
    )
    expect(await sshCa('retire', '1')).toMatchObject({ code: 0 })
    expect((await sshCa('public')).stdout).toMatch(/^ssh-ed25519 \S+ imagebuild user CA 2\n$/)
  })

  test('show: keys, certificates, what was revoked', async () => {
    await init()
    await sshCa('sign-user', key, '--principal', 'alice', '--identity', 'Alice')
    await sshCa('sign-host', key, '--hostname', 'web')
    const revoked = await sshCa('revoke', place.path('id-cert.pub'), '--reason', 'web is gone')
    expect(revoked.stdout).toMatch(/^revoked certificate 2 of SHA256:\S+: version 2 of the list\n$/)
    expect(revoked.stderr).toContain(`${folder}/revoked.krl`)
    expect((await sshCa('revoke', '2')).stdout).toMatch(/was revoked before/)
    const { stdout } = await sshCa('show')
    expect(stdout).toMatch(/user 1 +SHA256:\S+ +in its folder +signs/)
    expect(stdout).toMatch(/1 +user +valid .* alice +Alice\n/)
    expect(stdout).toMatch(/2 +host +revoked .* web +web\n/)
    expect(stdout).toMatch(/certificate 2 .* web is gone\n/)
    const json = JSON.parse((await sshCa('show', '--json')).stdout)
    expect(json).toMatchObject({
      authorities: [{ generation: 1, signs: true, userCa: { privateKey: 'file' } }],
      certificates: [
        { serial: 1, state: 'valid' },
        { serial: 2, state: 'revoked' },
      ],
      revoked: [{ serial: 2, reason: 'web is gone' }],
      revocationList: { version: 2, file: `${folder}/revoked.krl` },
    })
  })

  test('a folder that others can read is refused with the line to type', async () => {
    await init()
    await chmod(folder, 0o755)
    const { code, stderr } = await sshCa('show')
    expect(code).toBe(77)
    expect(stderr).toContain(`→ chmod 700 '${folder}'`)
  })
})

describe('host-seed', () => {
  test('is the part of cloud-config that gives a machine its certified key', async () => {
    await init()
    const { code, stdout } = await sshCa('host-seed', 'web', '--alias', 'web.example,192.0.2.7')
    expect(code).toBe(0)
    expect(stdout).toMatch(/^#cloud-config\n/)
    const { ssh_keys: keys } = load(stdout) as { ssh_keys: Record<string, string> }
    expect(Object.keys(keys)).toEqual(['ed25519_private', 'ed25519_public', 'ed25519_certificate'])
    await writeFile(place.path('host'), keys.ed25519_private as string, { mode: 0o600 })
    const derived = execFileSync('ssh-keygen', ['-y', '-f', place.path('host')], { encoding: 'utf8' })
    expect(derived.trim()).toBe(keys.ed25519_public)
    await writeFile(place.path('host-cert.pub'), `${keys.ed25519_certificate}\n`)
    expect(described(place.path('host-cert.pub'))).toMatch(
      /host certificate[\s\S]*web\n\s+web.example\n\s+192.0.2.7\n/,
    )
    expect((await sshCa('host-seed', 'web', '--alias', 'web.example,192.0.2.7')).stdout).toBe(stdout)
  })

  const terraform = (input: string) =>
    spawnSync(process.execPath, [MAIN, 'ssh-ca', 'host-seed', '--format', 'terraform', '--folder', folder], {
      input,
      encoding: 'utf8',
    })

  test('answers Terraform with strings, the same at each plan', async () => {
    await init()
    const query = JSON.stringify({ hostname: 'web', aliases: 'web.example, 192.0.2.7' })
    const [one, two] = [terraform(query), terraform(query)]
    expect(one.stderr).toBe('')
    expect(one.status).toBe(0)
    expect(two.stdout).toBe(one.stdout)
    const answer = JSON.parse(one.stdout)
    expect(answer).toMatchObject({ hostname: 'web', aliases: 'web.example,192.0.2.7' })
    expect(new Set(Object.values(answer).map((value) => typeof value))).toEqual(new Set(['string']))
    // By hand it is the same machine.
    const { stdout } = await sshCa('host-seed', 'web', '--alias', 'web.example', '--alias', '192.0.2.7')
    expect(stdout).toBe(answer.cloud_config)
    const { ssh_keys: keys } = load(answer.cloud_config) as { ssh_keys: Record<string, string> }
    expect(keys).toEqual({
      ed25519_private: answer.ed25519_private,
      ed25519_public: answer.ed25519_public,
      ed25519_certificate: answer.ed25519_certificate,
    })
    expect((await stat(`${folder}/hosts/web/ssh_host_ed25519_key`)).mode & 0o777).toBe(0o600)
  })

  test.each([
    ['', /no JSON/],
    ['[]', /no JSON object/],
    ['{}', /no hostname/],
    ['{"hostname":"web","alias":"x"}', /alias is unknown/],
    ['{"hostname":7}', /hostname is no string/],
    ['{"hostname":"../web"}', /neither a DNS name/],
  ])('refuses the query %j', async (query, message) => {
    await init()
    const { status, stdout, stderr } = terraform(query)
    expect(stderr).toMatch(message)
    expect({ status, stdout }).toEqual({ status: 64, stdout: '' })
  })

  test('prints no private key on a terminal, unless told to', async () => {
    await init()
    const command = [process.execPath, MAIN, 'ssh-ca', 'host-seed', 'web', '--folder', folder]
    const shown = await onTerminal(command, [])
    expect(shown).toContain('not printed on a terminal')
    expect(shown).not.toContain('PRIVATE KEY')
    expect(await onTerminal([...command, '--force'], [])).toContain('PRIVATE KEY')
    const file = place.path('web.yaml')
    const told = await onTerminal([...command, '--out', file], [])
    expect(told).toMatch(/web\.yaml: host key and certificate for web, until \S+Z/)
    expect(told).not.toContain('PRIVATE KEY')
    expect(await readFile(file, 'utf8')).toBe((await sshCa('host-seed', 'web')).stdout)
    expect((await stat(file)).mode & 0o777).toBe(0o600)
    expect(await onTerminal([...command, '--out', '-'], [])).toContain('not printed on a terminal')
  })

  test('leaves no copy of the private key where it cannot be written', async () => {
    await init()
    const taken = place.path('taken')
    await mkdir(taken)
    const { code, stderr } = await sshCa('host-seed', 'web', '--out', taken)
    expect({ code, stderr }).toEqual({ code: 64, stderr: expect.stringContaining('cannot be written') })
    expect((await readdir(place.path())).filter((name) => name.startsWith('taken'))).toEqual(['taken'])
  })
})

/** Runs a command on a pseudo terminal, answers each of its questions, and gives what the terminal showed. */
async function onTerminal(command: string[], answers: string[]): Promise<string> {
  const line = command.map((word) => `'${word}'`).join(' ')
  const child = spawn('script', ['-qfec', line, '/dev/null'], { stdio: ['pipe', 'pipe', 'inherit'] })
  let shown = ''
  const waiting = [...answers]
  child.stdout.on('data', (chunk) => {
    shown += chunk
    const asked = shown.split(/passphrase[^\n]*: /).length - 1
    if (asked > answers.length - waiting.length && waiting.length > 0)
      child.stdin.write(`${waiting.shift()}\r`)
  })
  await new Promise((resolve) => child.once('close', resolve))
  return shown
}
