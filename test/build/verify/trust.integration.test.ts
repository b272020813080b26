import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { execa } from 'execa'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { judgeTrust } from '../../../src/build/verify/certificates.ts'
import type { Examiner } from '../../../src/build/verify/examiner.ts'
import { generateKeyPair } from '../../../src/ssh/openssh.ts'
import { noNamespace, noSshd } from '../../ssh/sshd.ts'

/** What the real sshd says of an /etc/ssh that is ours for the moment. */
describe.skipIf(noSshd || noNamespace)('whom sshd trusts', () => {
  let etc: string
  let ca: string
  beforeEach(async () => {
    etc = await mkdtemp(join(tmpdir(), 'imagebuild-etc-ssh-'))
    const [host, authority] = await Promise.all([generateKeyPair('host'), generateKeyPair('ca')])
    ca = authority.publicKey
    await writeFile(join(etc, 'host_key'), host.privateKey, { mode: 0o600 })
    await config()
  })
  afterEach(async () => {
    await rm(etc, { recursive: true, force: true })
  })

  const config = (...lines: string[]) =>
    writeFile(join(etc, 'sshd_config'), ['HostKey /etc/ssh/host_key', ...lines, ''].join('\n'))

  const examiner: Examiner = {
    run: async (script, { env = {}, seconds }) => {
      const inside = 'mount --bind "$ETC" /etc/ssh && { mkdir -p /run/sshd; exec /bin/sh -c "$SCRIPT"; }'
      const { exitCode, stdout, stderr } = await execa('unshare', ['-m', '/bin/sh', '-c', inside], {
        env: { ...env, ETC: etc, SCRIPT: script },
        reject: false,
        stripFinalNewline: false,
        timeout: seconds * 1000,
      })
      return { exitCode: exitCode ?? -1, stdout, stderr }
    },
  }

  async function failed(
    configured: readonly string[],
    principals: Record<string, string[]> = {},
    revokes = false,
  ): Promise<Record<string, string | undefined>> {
    const signal = new AbortController().signal
    const { results } = await judgeTrust(
      { examiner, user: 'root' },
      { ca: configured, principals, revokes, signal },
    )
    expect(results.map(({ id }) => id)).toEqual(expect.arrayContaining(['authorities', 'principals']))
    return Object.fromEntries(
      results.flatMap(({ id, outcome, found }) => (outcome === 'failed' ? [[id, found]] : [])),
    )
  }

  test('nobody, where nobody is configured', async () => {
    expect(await failed([])).toEqual({})
  })

  test('a CA that nobody has configured is found', async () => {
    await config('TrustedUserCAKeys /etc/ssh/ca')
    await writeFile(join(etc, 'ca'), `${ca}\n`)
    expect(await failed([])).toEqual({
      authorities: 'sshd trusts the CAs in /etc/ssh/ca, and none is configured',
    })
    expect(await failed([ca])).toEqual({})
  })

  test('an sshd that says nothing is not one that trusts nobody', async () => {
    await config('NoSuchOption yes')
    expect(await failed([])).toEqual({
      authorities: 'sshd -T does not say what it trusts (TrustedUserCAKeys)',
    })
  })

  test('a list of revoked keys that sshd does not read, or that is not there, is found', async () => {
    expect(await failed([], {}, true)).toEqual({
      'revoked-keys': 'sshd -T names no file (RevokedKeys): it refuses nothing that was revoked',
    })
    await config('RevokedKeys /etc/ssh/revoked')
    expect(await failed([], {}, true)).toEqual({ 'revoked-keys': '/etc/ssh/revoked, which is not there' })
    await writeFile(join(etc, 'revoked'), '')
    expect(await failed([], {}, true)).toEqual({})
  })

  test('principals of a user whom the definition does not name are found', async () => {
    await config('TrustedUserCAKeys /etc/ssh/ca', 'AuthorizedPrincipalsFile /etc/ssh/auth_principals/%u')
    await writeFile(join(etc, 'ca'), `${ca}\n`)
    await mkdir(join(etc, 'auth_principals'))
    await writeFile(join(etc, 'auth_principals/root'), 'admins\n')
    expect(await failed([ca], { root: ['admins'] })).toEqual({})
    await writeFile(join(etc, 'auth_principals/old'), '# of a parent\nops\nadmins\n')
    const found =
      '/etc/ssh/auth_principals/old: the definition says nothing of old, who is let in as ops, admins'
    expect(await failed([ca], { root: ['admins'] })).toEqual({ principals: found })
  })
})
