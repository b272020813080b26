import { chmod, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { parsePolicy, parseSshAudit, policyFor } from '../../audit/ssh-audit.ts'
import { expandHardening } from '../../src/hardening/expand.ts'

/** From a clone without hardening: ssh-audit 3.3.0, two of each kind of algorithm. */
const CAPTURED = {
  additional_notes: [],
  banner: { protocol: '2.0', software: 'OpenSSH_9.2p1' },
  cves: [],
  enc: [
    { algorithm: 'chacha20-poly1305@openssh.com', notes: { info: ['available since OpenSSH 6.5'] } },
    { algorithm: 'aes128-ctr', notes: { info: ['available since OpenSSH 3.7, Dropbear SSH 0.52'] } },
  ],
  kex: [
    { algorithm: 'curve25519-sha256', notes: { info: ['available since OpenSSH 7.4'] } },
    {
      algorithm: 'diffie-hellman-group14-sha256',
      notes: { warn: ['2048-bit modulus only provides 112-bits of symmetric strength'] },
    },
  ],
  key: [
    {
      algorithm: 'ecdsa-sha2-nistp256',
      notes: {
        fail: [
          'using elliptic curves that are suspected as being backdoored by the U.S. National Security Agency',
        ],
        warn: ['using weak random number generator could reveal the key'],
      },
    },
    { algorithm: 'ssh-ed25519', notes: {} },
  ],
  mac: [
    { algorithm: 'hmac-sha2-256-etm@openssh.com', notes: { info: ['available since OpenSSH 6.2'] } },
    {
      algorithm: 'umac-64@openssh.com',
      notes: { warn: ['using encrypt-and-MAC mode', 'using small 64-bit tag size'] },
    },
  ],
  target: '10.83.0.216:22',
}

test('failures and warnings are counted as ssh-audit notes them, one by one', () => {
  expect(parseSshAudit(JSON.stringify(CAPTURED))).toEqual({
    failures: [
      'key ecdsa-sha2-nistp256: using elliptic curves that are suspected as being backdoored by the U.S. National Security Agency',
    ],
    warnings: [
      'kex diffie-hellman-group14-sha256: 2048-bit modulus only provides 112-bits of symmetric strength',
      'key ecdsa-sha2-nistp256: using weak random number generator could reveal the key',
      'mac umac-64@openssh.com: using encrypt-and-MAC mode',
      'mac umac-64@openssh.com: using small 64-bit tag size',
    ],
  })
})

test('a report that lacks a kind of algorithm is no clean one', () => {
  const { mac: _, ...cut } = CAPTURED
  expect(() => parseSshAudit(JSON.stringify(cut))).toThrow('mac')
})

test('a policy that is not kept says field, what is there and what should be', () => {
  const captured = {
    errors: [
      {
        actual: ['3072'],
        expected_optional: [''],
        expected_required: ['4096'],
        mismatched_field: 'Host key (rsa-sha2-512) sizes',
      },
    ],
    host: '10.83.0.216',
    passed: false,
    policy: 'Hardened Debian 12 (version 2)',
    port: 22,
    warnings: [],
  }
  expect(parsePolicy(JSON.stringify(captured))).toEqual({
    policy: 'Hardened Debian 12 (version 2)',
    passed: false,
    errors: ['Host key (rsa-sha2-512) sizes: 3072; the policy has 4096'],
  })
  expect(parsePolicy(JSON.stringify({ ...captured, errors: [], passed: true }))).toMatchObject({
    passed: true,
    errors: [],
  })
})

/** Our file, for versions that do not have the policy: `name = value`. */
async function ownPolicy(): Promise<Record<string, string>> {
  const text = await readFile(new URL('../../audit/policies/debian-13.txt', import.meta.url), 'utf8')
  const lines = text.split('\n').filter((line) => line !== '' && !line.startsWith('#'))
  return Object.fromEntries(lines.map((line) => line.split(' = ') as [string, string]))
}

test('with postQuantum, hardening sets the algorithms of the policy for Debian 13, in its order', async () => {
  const policy = await ownPolicy()
  const names = (field: string) => policy[field]?.split(', ') ?? []
  const machine = { kind: 'vm', unprivileged: false, containerHost: false, postQuantum: true } as const
  const where = { file: 'image.yaml', line: 1, column: 1 }
  const { applied, atSeal } = expandHardening({ profile: 'cis-l1', except: {}, where }, machine)
  const file = applied.find(({ id }) => id === 'sshd-algorithms')?.measures.files?.[0]
  const settings = Object.fromEntries(
    (file?.content ?? '').split('\n').map((line) => line.split(' ') as [string, string]),
  )
  expect(settings.Ciphers?.split(',')).toEqual(names('ciphers'))
  expect(settings.MACs?.split(',')).toEqual(names('macs'))
  const hostKeys = settings.HostKeyAlgorithms?.split(',') ?? []
  const optional = names('optional host keys')
  expect(hostKeys.filter((name) => !optional.includes(name))).toEqual(names('host keys'))
  // What OpenSSH adds by itself is no key exchange.
  const kex = names('key exchanges').filter((name) => !/^(ext-info|kex-strict)-/.test(name))
  expect(atSeal).toContain(`for one in ${kex.join(' ')}; do`)
})

test('a policy that ssh-audit does not know is a file of ours, and the verdict says so', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'imagebuild-ssh-audit-'))
  const program = join(folder, 'ssh-audit')
  const tools = {
    sshAudit: { version: '3.3.0-2', command: [program], env: {} },
    content: { version: '', folder },
  } as const
  const knows = async (...policies: string[]) => {
    await writeFile(
      program,
      `#!/bin/sh\nprintf '  * "%s"\\n' ${policies.map((one) => `'${one}'`).join(' ')}\n`,
    )
    await chmod(program, 0o755)
  }
  const signal = new AbortController().signal
  await knows('Hardened Debian 12 (version 2)')
  expect(await policyFor(tools, '12', signal)).toEqual({ policy: 'Hardened Debian 12 (version 2)' })
  expect(await policyFor(tools, '13', signal)).toEqual({
    policy: expect.stringMatching(/\/audit\/policies\/debian-13\.txt$/),
    note: 'ssh-audit 3.3.0-2 does not have it: its algorithms are in audit/policies/debian-13.txt',
  })
  await knows('Hardened Debian 13 (version 1)')
  expect(await policyFor(tools, '13', signal)).toEqual({ policy: 'Hardened Debian 13 (version 1)' })
  await expect(policyFor(tools, '12', signal)).rejects.toThrow('has no policy Hardened Debian 12')
  await rm(folder, { recursive: true })
})
