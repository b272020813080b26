import { execFileSync } from 'node:child_process'
import { appendFile, chmod, mkdir, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { afterEach, describe, expect, test, vi } from 'vitest'
import {
  createAuthority,
  ensureAuthority,
  openAuthority,
  retireGeneration,
  rotateAuthority,
} from '../../../src/ssh/ca/authority.ts'
import { describeCertificate } from '../../../src/ssh/ca/certificate.ts'
import { takeInventory } from '../../../src/ssh/ca/inventory.ts'
import type { Issued } from '../../../src/ssh/ca/issue-log.ts'
import { otherProcess, scratch, somePublicKey, startAgent, startProcess } from './ca-folder.ts'

afterEach(() => {
  vi.unstubAllEnvs()
})

const modeOf = async (path: string) => ((await stat(path)).mode & 0o777).toString(8)

describe('a new CA', () => {
  test('has two ed25519 keys, for its owner alone', async () => {
    await using place = await scratch()
    const { userCa, hostCa } = await createAuthority({ folder: place.path('ca') })
    expect(userCa).toEqual([expect.stringMatching(/^ssh-ed25519 \S+ imagebuild user CA 1$/)])
    expect(hostCa).toEqual([expect.stringMatching(/^ssh-ed25519 \S+ imagebuild host CA 1$/)])
    expect(await modeOf(place.path('ca'))).toBe('700')
    for (const key of ['user_ca', 'host_ca']) {
      const file = place.path('ca/keys/1', key)
      expect(await modeOf(file)).toBe('600')
      expect(execFileSync('ssh-keygen', ['-y', '-P', '', '-f', file], { encoding: 'utf8' }).trim()).toBe(
        (key === 'user_ca' ? userCa : hostCa)[0],
      )
    }
    expect(await readFile(place.path('ca/user_ca.pub'), 'utf8')).toBe(`${userCa[0]}\n`)
    // Sshd refuses everybody where RevokedKeys names no file.
    expect((await stat(place.path('ca/revoked.krl'))).size).toBeGreaterThan(0)
    expect(await readFile(place.path('ca/.gitignore'), 'utf8')).toBe('*\n')
  })

  test('is never made over another, nor in a folder of other things', async () => {
    await using place = await scratch()
    const { userCa } = await createAuthority({ folder: place.path('ca') })
    await expect(createAuthority({ folder: place.path('ca') })).rejects.toMatchObject({
      code: 'usage',
      message: expect.stringContaining('already'),
      next: expect.stringContaining('rotate'),
    })
    expect((await openAuthority(place.path('ca'))).userCa).toEqual(userCa)
    await mkdir(place.path('home'), { mode: 0o700 })
    await writeFile(place.path('home/letter'), '')
    await expect(createAuthority({ folder: place.path('home') })).rejects.toThrow(/letter/)
    expect(await readdir(place.path('home'))).toEqual(['letter'])
  })

  test('takes the place of one whose making was cut short', async () => {
    await using place = await scratch()
    await mkdir(place.path('ca/keys/.new-1'), { recursive: true, mode: 0o700 })
    await chmod(place.path('ca'), 0o700)
    await writeFile(place.path('ca/keys/.new-1/user_ca'), 'half of a key', { mode: 0o600 })
    await createAuthority({ folder: place.path('ca') })
    expect(await readdir(place.path('ca/keys'))).toEqual(['1'])
  })

  test('tells of its keys again where a crash kept it from that', async () => {
    await using place = await scratch()
    const { userCa } = await createAuthority({ folder: place.path('ca') })
    await rm(place.path('ca/user_ca.pub'))
    await openAuthority(place.path('ca'))
    expect(await readFile(place.path('ca/user_ca.pub'), 'utf8')).toBe(`${userCa[0]}\n`)
  })

  test('is one, also where several processes want it at once', async () => {
    await using place = await scratch()
    const script = 'console.log((await authority.ensureAuthority(args[0])).userCa.join())'
    const answers = await Promise.all([1, 2, 3].map(() => otherProcess(script, place.path('ca'))))
    expect(new Set(answers).size).toBe(1)
    expect((await ensureAuthority(place.path('ca'))).userCa.join()).toBe(answers[0]?.trim())
  })
})

describe('what is not as it must be is refused', () => {
  test('no CA there', async () => {
    await using place = await scratch()
    await expect(openAuthority(place.path('ca'))).rejects.toMatchObject({
      code: 'not_found',
      next: expect.stringContaining('ssh-ca init'),
    })
  })

  test.each([
    ['.', 0o750, 'chmod 700'],
    ['keys/1/user_ca', 0o640, 'chmod 600'],
    ['keys/1/host_ca', 0o604, 'chmod 600'],
  ])('%s with mode %o', async (name, mode, line) => {
    await using place = await scratch()
    await createAuthority({ folder: place.path('ca') })
    await chmod(place.path('ca', name), mode)
    const error = await openAuthority(place.path('ca')).catch((thrown) => thrown)
    expect(error).toMatchObject({ code: 'permission_denied', next: expect.stringContaining(line) })
    execFileSync('sh', ['-c', error.next])
    await openAuthority(place.path('ca'))
  })

  test('no ssh-keygen', async () => {
    await using place = await scratch()
    await createAuthority({ folder: place.path('ca') })
    vi.stubEnv('PATH', place.path('empty'))
    await expect(openAuthority(place.path('ca'))).rejects.toMatchObject({
      code: 'prerequisite_missing',
      why: 'ssh-keygen is not installed',
      next: 'apt-get install openssh-client',
    })
  })

  test('no issue log: serial numbers would begin anew', async () => {
    await using place = await scratch()
    const ca = await createAuthority({ folder: place.path('ca') })
    execFileSync('rm', [ca.log.path])
    const request = { publicKey: await somePublicKey(), identity: 'x', principals: ['x'], validity: 60 }
    await expect(ca.signUser(request)).rejects.toMatchObject({ code: 'prerequisite_missing' })
  })
})

describe('a passphrase', () => {
  test('locks the keys, and is in no command line', async () => {
    await using place = await scratch()
    const passphrase = 'corréct "horse" $battery'
    await mkdir(place.path('bin'))
    // All command lines of this machine, as each ssh-keygen of ours begins and ends.
    await writeFile(
      place.path('bin/ssh-keygen'),
      `#!/bin/sh
look() { cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' ' >> '${place.path('seen')}'; }
look
( i=0; while [ $i -lt 6 ]; do look; sleep 0.01; i=$((i+1)); done ) &
PATH='${process.env.PATH}' ssh-keygen "$@"
rc=$?
wait
exit $rc
`,
      { mode: 0o755 },
    )
    vi.stubEnv('PATH', `${place.path('bin')}:${process.env.PATH}`)
    await createAuthority({ folder: place.path('ca'), passphrase })
    const request = { publicKey: await somePublicKey(), identity: 'x', principals: ['x'], validity: 60 }
    const ca = await openAuthority(place.path('ca'), { passphrase: async () => passphrase })
    await ca.signUser(request)
    const seen = await readFile(place.path('seen'), 'utf8')
    expect(seen).toContain(place.path('ca/keys/1/user_ca'))
    expect(seen).not.toContain('horse')
    vi.unstubAllEnvs()

    const why = (options: object) =>
      openAuthority(place.path('ca'), options).then((opened) => opened.signUser(request))
    await expect(why({ passphrase: 'wrong' })).rejects.toMatchObject({
      code: 'permission_denied',
      why: 'the passphrase is wrong',
    })
    await expect(why({})).rejects.toMatchObject({ code: 'permission_denied', next: /--passphrase/ })
    expect(await describeCertificate(await why({ passphrase }))).toMatchObject({ kind: 'user' })
  })

  test('is not asked for where no key is locked', async () => {
    await using place = await scratch()
    await createAuthority({ folder: place.path('ca') })
    const passphrase = vi.fn()
    const ca = await openAuthority(place.path('ca'), { passphrase })
    await ca.signHost({ publicKey: await somePublicKey(), hostnames: ['web'], validity: 60 })
    expect(passphrase).not.toHaveBeenCalled()
  })

  test.each(['', 'two\nlines', 'x'.repeat(1024)])(
    'that ssh-keygen would cut short is refused',
    async (passphrase) => {
      await using place = await scratch()
      await expect(createAuthority({ folder: place.path('ca'), passphrase })).rejects.toMatchObject({
        code: 'usage',
      })
    },
  )
})

describe('certificates', () => {
  test('say what was asked for, and so does the log', async () => {
    await using place = await scratch()
    const ca = await createAuthority({ folder: place.path('ca') })
    const publicKey = await somePublicKey()
    const from = new Date('2001-02-03T04:05:06Z')
    const to = new Date('2002-03-04T05:06:07Z')
    const certificate = await ca.signUser({
      ...{ publicKey, identity: 'Alice (laptop)', principals: ['alice', 'admins'] },
      ...{ validity: { from, to }, options: ['no-pty', 'source-address=192.0.2.0/24'] },
    })
    const told = await describeCertificate(certificate)
    expect(told).toMatchObject({
      ...{ kind: 'user', serial: 1, identity: 'Alice (laptop)', principals: ['alice', 'admins'] },
      ...{ validFrom: from, validTo: to },
      ca: ca.pairs[0]?.user.fingerprint,
    })
    await writeFile(place.path('certificate'), `${certificate}\n`)
    const shown = execFileSync('ssh-keygen', ['-L', '-f', place.path('certificate')], { encoding: 'utf8' })
    expect(shown).toContain('source-address 192.0.2.0/24')
    expect(shown).not.toContain('permit-pty')

    const host = await ca.signHost({ publicKey, hostnames: ['Web.Example', '192.0.2.7'], validity: 60 })
    expect(await describeCertificate(host)).toMatchObject({
      ...{ kind: 'host', serial: 2, identity: 'web.example', principals: ['web.example', '192.0.2.7'] },
      ca: ca.pairs[0]?.host.fingerprint,
    })
    const issued = (await ca.log.read()).records.filter(({ event }) => event === 'issued')
    expect(issued).toMatchObject([
      {
        ...{ kind: 'user', serial: 1, identity: 'Alice (laptop)', principals: ['alice', 'admins'] },
        ...{ validFrom: from.toISOString(), validTo: to.toISOString(), by: expect.stringContaining('@') },
        ...{ fingerprint: told.fingerprint, options: ['no-pty', 'source-address=192.0.2.0/24'] },
      },
      { kind: 'host', serial: 2 },
    ])
    expect(await modeOf(ca.log.path)).toBe('600')
  })

  test('for some time begin five minutes ago', async () => {
    await using place = await scratch()
    const ca = await createAuthority({ folder: place.path('ca') })
    const request = { publicKey: await somePublicKey(), identity: 'x', principals: ['x'], validity: 3600 }
    const { validFrom, validTo } = await describeCertificate(await ca.signUser(request))
    expect((validTo?.getTime() ?? 0) - (validFrom?.getTime() ?? 0)).toBeLessThanOrEqual(3901_000)
    expect((validTo?.getTime() ?? 0) - (validFrom?.getTime() ?? 0)).toBeGreaterThanOrEqual(3899_000)
  })

  test('are written down before they are signed: none is unknown, and a failed one is void', async () => {
    await using place = await scratch()
    const ca = await createAuthority({ folder: place.path('ca') })
    await mkdir(place.path('bin'))
    // The real one signs, if by then the log has it.
    await writeFile(
      place.path('bin/ssh-keygen'),
      `#!/bin/sh
case " $* " in *' -I '*) grep -q '"identity":"watched"' '${ca.log.path}' || { echo unlogged >&2; exit 9; } ;; esac
PATH='${process.env.PATH}' exec ssh-keygen "$@"
`,
      { mode: 0o755 },
    )
    vi.stubEnv('PATH', `${place.path('bin')}:${process.env.PATH}`)
    const request = { publicKey: await somePublicKey(), identity: 'watched', principals: ['x'], validity: 60 }
    await ca.signUser(request)
    await expect(ca.signUser({ ...request, options: ['nonsense'] })).rejects.toThrow(/nonsense/)
    await ca.signUser(request)
    const { records } = await ca.log.read()
    expect(records.filter(({ event }) => event === 'void')).toMatchObject([{ serial: 2 }])
    expect((await takeInventory(ca)).certificates.map(({ serial }) => serial)).toEqual([1, 3])
    await expect(ca.revoke({ target: 2 })).rejects.toMatchObject({ code: 'not_found' })
  })

  test.each([
    [{ principals: [] }, /without principals/],
    [{ principals: ['a b'] }, /"a b"/],
    [{ principals: ['a,b'] }, /"a,b"/],
    [{ identity: 'x\ny' }, /identity/],
    [{ identity: '' }, /identity/],
    [{ publicKey: 'ssh-ed25519 AAAA' }, /no public key/],
    [{ validity: { from: new Date(2), to: new Date(1) } }, /end before it begins/],
    [{ generation: 7 }, /no generation 7/],
  ])('that make no sense are refused and take no number: %j', async (change, message) => {
    await using place = await scratch()
    const ca = await createAuthority({ folder: place.path('ca') })
    const publicKey = await somePublicKey()
    const request = { publicKey, identity: 'x', principals: ['x'], validity: 60, ...change }
    await expect(ca.signUser(request)).rejects.toThrow(message)
    expect((await ca.log.read()).lastSerial).toBe(0)
  })

  test('of certificates are refused', async () => {
    await using place = await scratch()
    const ca = await createAuthority({ folder: place.path('ca') })
    const request = { publicKey: await somePublicKey(), identity: 'x', principals: ['x'], validity: 60 }
    const publicKey = await ca.signUser(request)
    await expect(ca.signUser({ ...request, publicKey })).rejects.toThrow(/cannot be certified/)
  })

  test.each(['*.example', 'a b', 'user@web', 'web:22', '-oProxyCommand', '../x', ''])(
    'for the host name %j are refused',
    async (name) => {
      await using place = await scratch()
      const ca = await createAuthority({ folder: place.path('ca') })
      const request = { publicKey: await somePublicKey(), hostnames: [name], validity: 60 }
      await expect(ca.signHost(request)).rejects.toMatchObject({ code: 'usage' })
    },
  )
})

describe('serial numbers', () => {
  test('are each given once, whoever signs at the same time', async () => {
    await using place = await scratch()
    const ca = await createAuthority({ folder: place.path('ca') })
    const script = `
      const ca = await authority.openAuthority(args[0])
      const request = { publicKey: args[1], identity: 'x', principals: ['x'], validity: 60 }
      const lines = await Promise.all([1, 2, 3, 4].map(() => ca.signUser(request)))
      console.log(lines.join('\\n'))`
    const publicKey = await somePublicKey()
    const printed = await Promise.all([1, 2, 3].map(() => otherProcess(script, place.path('ca'), publicKey)))
    const certificates = await Promise.all(
      printed
        .join('')
        .trim()
        .split('\n')
        .map((line) => describeCertificate(line)),
    )
    const serials = certificates.map(({ serial }) => serial).sort((a, b) => a - b)
    expect(serials).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12])
    const { records, damaged } = await ca.log.read()
    expect(damaged).toEqual([])
    const logged = records.filter((record): record is typeof record & Issued => record.event === 'issued')
    expect(logged.map(({ serial }) => serial)).toEqual(serials)
  })

  test('go on after a process was killed that had the lock', async () => {
    await using place = await scratch()
    const ca = await createAuthority({ folder: place.path('ca') })
    const killed = startProcess(
      `const { folder } = await authority.openAuthority(args[0])
       await folder.lock()
       console.log('locked')
       setInterval(() => {}, 1000)`,
      place.path('ca'),
    )
    await new Promise((resolve) => killed.stdout.once('data', resolve))
    const request = { publicKey: await somePublicKey(), identity: 'x', principals: ['x'], validity: 60 }
    const signing = ca.signUser(request)
    expect((await ca.log.read()).lastSerial).toBe(0)
    killed.kill('SIGKILL')
    expect(await describeCertificate(await signing)).toMatchObject({ serial: 1 })
  })

  test('are not given again where a crash cut the log short', async () => {
    await using place = await scratch()
    const ca = await createAuthority({ folder: place.path('ca') })
    await appendFile(ca.log.path, '{"time":"2026-01-01T00:00:00Z","event":"issued","serial":41,"iden')
    const request = { publicKey: await somePublicKey(), identity: 'x', principals: ['x'], validity: 60 }
    expect(await describeCertificate(await ca.signUser(request))).toMatchObject({ serial: 42 })
    const { certificates, damagedLogLines } = await takeInventory(ca)
    expect(certificates.map(({ serial }) => serial)).toEqual([42])
    expect(damagedLogLines).toEqual([2])
  })
})

describe('rotation', () => {
  test('signs with new keys, trusts the old ones until they are retired', async () => {
    await using place = await scratch()
    const first = await createAuthority({ folder: place.path('ca') })
    const request = { publicKey: await somePublicKey(), identity: 'x', principals: ['x'], validity: 3600 }
    const before = await first.signUser(request)
    const second = await rotateAuthority({ folder: place.path('ca'), passphrase: 'another' })
    expect(second.userCa).toEqual([expect.stringContaining('user CA 2'), first.userCa[0]])
    expect(second.hostCa).toEqual([expect.stringContaining('host CA 2'), first.hostCa[0]])
    expect(await readFile(place.path('ca/user_ca.pub'), 'utf8')).toBe(`${second.userCa.join('\n')}\n`)
    const now = await describeCertificate(await second.signUser(request))
    expect(now).toMatchObject({ serial: 2, ca: second.pairs[0]?.user.fingerprint })
    const old = await describeCertificate(await second.signUser({ ...request, generation: 1 }))
    expect(old.ca).toBe(first.pairs[0]?.user.fingerprint)

    await expect(retireGeneration(place.path('ca'), 2)).rejects.toMatchObject({ code: 'usage' })
    await expect(retireGeneration(place.path('ca'), 3)).rejects.toMatchObject({ code: 'not_found' })
    await retireGeneration(place.path('ca'), 1)
    const third = await openAuthority(place.path('ca'))
    expect(third.userCa).toEqual([second.userCa[0]])
    expect(await readdir(place.path('ca/retired/1'))).toEqual(['host_ca.pub', 'user_ca.pub'])
    const { certificates } = await takeInventory(third)
    expect(certificates.map(({ state }) => state)).toEqual(['untrusted', 'valid', 'untrusted'])
    // A server that has not heard of it can still be told not to accept the certificate.
    expect(await third.revoke({ target: before })).toMatchObject({ changed: true, serial: 1 })
  })
})

describe('keys in ssh-agent', () => {
  test('sign without a private key in the folder', async () => {
    await using place = await scratch()
    using agent = await startAgent(place.path('agent'))
    const fingerprints = ['people', 'machines'].map((name) => {
      const file = place.path(name)
      execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-C', `${name} CA`, '-f', file])
      agent.add(file)
      return execFileSync('ssh-keygen', ['-l', '-f', file], { encoding: 'utf8' }).split(' ')[1] as string
    }) as [string, string]
    const folder = place.path('ca')
    const ca = await createAuthority({ folder, agent: { user: fingerprints[0], host: 'machines CA' } })
    expect(await readdir(place.path('ca/keys/1'))).toEqual(['host_ca.pub', 'user_ca.pub'])
    const publicKey = await somePublicKey()
    const user = await ca.signUser({ publicKey, identity: 'x', principals: ['x'], validity: 60 })
    expect((await describeCertificate(user)).ca).toBe(fingerprints[0])
    const host = await ca.signHost({ publicKey, hostnames: ['web'], validity: 60 })
    expect((await describeCertificate(host)).ca).toBe(fingerprints[1])

    const other = createAuthority({ folder: place.path('other'), agent: { user: 'nobody', host: 'x' } })
    await expect(other).rejects.toMatchObject({ code: 'not_found', next: expect.stringContaining('ssh-add') })
    await expect(openAuthority(place.path('other'))).rejects.toMatchObject({ code: 'not_found' })
    execFileSync('ssh-add', ['-q', '-D'], { stdio: 'pipe' })
    await expect(ca.signHost({ publicKey, hostnames: ['web'], validity: 60 })).rejects.toMatchObject({
      code: 'prerequisite_missing',
      next: expect.stringContaining('ssh-add -L'),
    })
  })

  test('sign where the file has a passphrase that nobody gives', async () => {
    await using place = await scratch()
    using agent = await startAgent(place.path('agent'))
    const ca = await createAuthority({ folder: place.path('ca'), passphrase: 'correct horse' })
    const file = ca.pairs[0]?.user.privateFile as string
    const opened = await openAuthority(place.path('ca'), {
      passphrase: () => Promise.reject(new Error('somebody was asked')),
    })
    const request = { publicKey: await somePublicKey(), identity: 'x', principals: ['x'], validity: 60 }
    await expect(opened.signUser(request)).rejects.toThrow('somebody was asked')
    const closed = await openAuthority(place.path('ca'))
    await expect(closed.signUser(request)).rejects.toMatchObject({
      next: expect.stringContaining(`ssh-add ${file}`),
    })
    agent.add(file, 'correct horse')
    const { ca: signer } = await describeCertificate(await opened.signUser(request))
    expect(signer).toBe(ca.pairs[0]?.user.fingerprint)
    // It was given the user CA's key alone.
    const host = { publicKey: request.publicKey, hostnames: ['web'], validity: 60 }
    await expect(opened.signHost(host)).rejects.toThrow('somebody was asked')
  })
})

describe('revocation', () => {
  test('of a certificate, by number or file, leaves the key’s other certificates alone', async () => {
    await using place = await scratch()
    const ca = await createAuthority({ folder: place.path('ca') })
    const request = { publicKey: await somePublicKey(), identity: 'x', principals: ['x'], validity: 3600 }
    const lines = []
    for (let n = 0; n < 3; n++) lines.push(await ca.signUser(request))
    expect(await ca.revoke({ target: 1, reason: 'lost' })).toMatchObject({ changed: true, version: 2 })
    expect(await ca.revoke({ target: lines[1] as string })).toMatchObject({ changed: true, version: 3 })
    expect(await ca.revoke({ target: 2 })).toMatchObject({ changed: false, version: 3, serial: 2 })
    await expect(ca.revoke({ target: 9 })).rejects.toMatchObject({ code: 'not_found' })
    const verdicts = await Promise.all(
      lines.map(async (line, index) => {
        await writeFile(place.path(`${index}-cert.pub`), `${line}\n`)
        try {
          execFileSync('ssh-keygen', ['-Q', '-f', ca.revokedKeys, place.path(`${index}-cert.pub`)])
          return 'ok'
        } catch {
          return 'revoked'
        }
      }),
    )
    expect(verdicts).toEqual(['revoked', 'revoked', 'ok'])
    const inventory = await takeInventory(ca)
    expect(inventory.certificates.map(({ state }) => state)).toEqual(['revoked', 'revoked', 'valid'])
    expect(inventory.revoked).toMatchObject([
      { serial: 1, reason: 'lost', krl: 2 },
      { serial: 2, krl: 3 },
    ])
  })

  test('of a key takes all its certificates with it', async () => {
    await using place = await scratch()
    const ca = await createAuthority({ folder: place.path('ca') })
    const publicKey = await somePublicKey()
    await ca.signUser({ publicKey, identity: 'x', principals: ['x'], validity: 3600 })
    expect(await ca.revoke({ target: publicKey })).toMatchObject({ changed: true, version: 2 })
    expect(await ca.revoke({ target: publicKey })).toMatchObject({ changed: false, version: 2 })
    expect((await takeInventory(ca)).certificates.map(({ state }) => state)).toEqual(['revoked'])
  })

  test('of what is not ours, or of the key that signs, is refused', async () => {
    await using place = await scratch()
    const ca = await createAuthority({ folder: place.path('ca') })
    const other = await createAuthority({ folder: place.path('other') })
    const request = { publicKey: await somePublicKey(), identity: 'x', principals: ['x'], validity: 3600 }
    await expect(ca.revoke({ target: await other.signUser(request) })).rejects.toThrow(/another CA/)
    await expect(ca.revoke({ target: ca.hostCa[0] as string })).rejects.toThrow(/itself/)
    expect((await takeInventory(ca)).revocationList.version).toBe(1)
  })

  test('at the same time, none is lost', async () => {
    await using place = await scratch()
    const ca = await createAuthority({ folder: place.path('ca') })
    const keys = await Promise.all([1, 2, 3].map(() => somePublicKey()))
    const script = 'await (await authority.openAuthority(args[0])).revoke({ target: args[1] })'
    await Promise.all(keys.map((key) => otherProcess(script, place.path('ca'), key)))
    for (const key of keys)
      expect(await ca.revoke({ target: key })).toMatchObject({ changed: false, version: 4 })
  })
})
