import { execFileSync } from 'node:child_process'
import { chmod, mkdir, readdir, rm, stat, writeFile } from 'node:fs/promises'
import { describe, expect, test } from 'vitest'
import {
  createAuthority,
  openAuthority,
  retireGeneration,
  rotateAuthority,
} from '../../../src/ssh/ca/authority.ts'
import { describeCertificate } from '../../../src/ssh/ca/certificate.ts'
import { hostIdentity } from '../../../src/ssh/ca/host-identity.ts'
import { fingerprint } from '../../../src/ssh/host-key.ts'
import { otherProcess, scratch } from './ca-folder.ts'

const DAY = 86_400

describe('the host key of a machine to be', () => {
  test('fits its certificate, and is for its owner alone', async () => {
    await using place = await scratch()
    const ca = await createAuthority({ folder: place.path('ca') })
    const identity = await hostIdentity(ca, { hostname: 'Web', aliases: ['192.0.2.7'], validity: DAY })
    expect(identity).toMatchObject({ hostname: 'web', aliases: ['192.0.2.7'] })
    await writeFile(place.path('key'), identity.privateKey, { mode: 0o600 })
    const derived = execFileSync('ssh-keygen', ['-y', '-f', place.path('key')], { encoding: 'utf8' })
    expect(derived.trim()).toBe(identity.publicKey)
    expect(await describeCertificate(identity.certificate)).toMatchObject({
      ...{ kind: 'host', principals: ['web', '192.0.2.7'], ca: ca.pairs[0]?.host.fingerprint },
      ...{ fingerprint: fingerprint(identity.publicKey), validTo: identity.validTo },
    })
    const kept = place.path('ca/hosts/web/ssh_host_ed25519_key')
    expect((await stat(kept)).mode & 0o777).toBe(0o600)
    await chmod(kept, 0o644)
    await expect(hostIdentity(ca, { hostname: 'web', validity: DAY })).rejects.toMatchObject({
      code: 'permission_denied',
      next: expect.stringContaining('chmod 600'),
    })
  })

  test('is the same each time, also for several who ask at once for the first time', async () => {
    await using place = await scratch()
    const ca = await createAuthority({ folder: place.path('ca') })
    const module = new URL('../../../src/ssh/ca/host-identity.ts', import.meta.url).href
    const script = `
      const { hostIdentity } = await import('${module}')
      const ca = await authority.openAuthority(args[0])
      console.log(JSON.stringify(await hostIdentity(ca, { hostname: 'web', aliases: ['a', 'b'], validity: ${DAY} })))`
    const answers = await Promise.all([1, 2, 3].map(() => otherProcess(script, place.path('ca'))))
    expect(new Set(answers).size).toBe(1)
    const again = await hostIdentity(ca, { hostname: 'web', aliases: ['a', 'b'], validity: 2 * DAY })
    expect(JSON.stringify(again)).toBe(answers[0]?.trim())
    expect((await ca.log.read()).lastSerial).toBe(1)
    expect((await readdir(place.path('ca/hosts'))).sort()).toEqual(['.lock', 'web'])
  })

  test('gets a new certificate when that nears its end, has other names, or its CA is retired', async () => {
    await using place = await scratch()
    const folder = place.path('ca')
    const ca = await createAuthority({ folder })
    // Of 10 seconds and the 5 minutes before them, less than a fifth is left.
    const first = await hostIdentity(ca, { hostname: 'web', validity: 10 })
    const second = await hostIdentity(ca, { hostname: 'web', validity: DAY })
    const third = await hostIdentity(ca, { hostname: 'web', aliases: ['web.example'], validity: DAY })
    const rotated = await rotateAuthority({ folder })
    const fourth = await hostIdentity(rotated, { hostname: 'web', aliases: ['web.example'], validity: DAY })
    expect(fourth).toEqual(third)
    await retireGeneration(folder, 1)
    const retired = await openAuthority(folder)
    const fifth = await hostIdentity(retired, { hostname: 'web', aliases: ['web.example'], validity: DAY })
    expect((await describeCertificate(fifth.certificate)).ca).toBe(retired.pairs[0]?.host.fingerprint)
    const all = [first, second, third, fifth]
    expect(new Set(all.map(({ privateKey }) => privateKey)).size).toBe(1)
    expect(new Set(all.map(({ certificate }) => certificate)).size).toBe(4)
  })

  test('is another one after its certificate was revoked', async () => {
    await using place = await scratch()
    const ca = await createAuthority({ folder: place.path('ca') })
    const before = await hostIdentity(ca, { hostname: 'web', validity: DAY })
    const other = await hostIdentity(ca, { hostname: 'db', validity: DAY })
    await ca.revoke({ target: before.certificate })
    const after = await hostIdentity(ca, { hostname: 'web', validity: DAY })
    expect(after.publicKey).not.toBe(before.publicKey)
    expect(await hostIdentity(ca, { hostname: 'web', validity: DAY })).toEqual(after)
    expect(await hostIdentity(ca, { hostname: 'db', validity: DAY })).toEqual(other)
    await ca.revoke({ target: after.publicKey })
    expect((await hostIdentity(ca, { hostname: 'web', validity: DAY })).publicKey).not.toBe(after.publicKey)
  })

  test('is kept where only the certificate is lost', async () => {
    await using place = await scratch()
    const ca = await createAuthority({ folder: place.path('ca') })
    const before = await hostIdentity(ca, { hostname: 'web', validity: DAY })
    await rm(place.path('ca/hosts/web/ssh_host_ed25519_key-cert.pub'))
    const after = await hostIdentity(ca, { hostname: 'web', validity: DAY })
    expect(after.privateKey).toBe(before.privateKey)
    expect((await describeCertificate(after.certificate)).serial).toBe(2)
  })

  test('is not taken for the rest of a crash, whatever the host is called; that rest goes', async () => {
    await using place = await scratch()
    const ca = await createAuthority({ folder: place.path('ca') })
    const before = await hostIdentity(ca, { hostname: 'web.new', validity: DAY })
    await mkdir(place.path('ca/hosts/.new-db'))
    await hostIdentity(ca, { hostname: 'db', validity: DAY })
    expect(await hostIdentity(ca, { hostname: 'web.new', validity: DAY })).toEqual(before)
    expect((await readdir(place.path('ca/hosts'))).sort()).toEqual(['.lock', 'db', 'web.new'])
  })

  test.each(['..', 'a/b', '192.0.2.7', '2001:db8::7', '.lock', ''])(
    'has a host name: %j',
    async (hostname) => {
      await using place = await scratch()
      const ca = await createAuthority({ folder: place.path('ca') })
      await expect(hostIdentity(ca, { hostname, validity: DAY })).rejects.toMatchObject({ code: 'usage' })
      expect(await readdir(place.path('ca/hosts'))).toEqual([])
    },
  )
})
