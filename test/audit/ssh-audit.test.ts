import { expect, test } from 'vitest'
import { parsePolicy, parseSshAudit } from '../../audit/ssh-audit.ts'

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
