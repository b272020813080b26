import { expect, test } from 'vitest'
import type { Layer, SshSpec } from '../../src/definition/spec.ts'
import { certificateLayers, certificatesOf } from '../../src/plan/certificates.ts'
import { bytes, WHERE } from './spec.ts'

const CAS = ['ssh-ed25519 AAAA new', 'ssh-ed25519 BBBB old']

function layers(change: Partial<SshSpec>, target: readonly string[] = CAS): Layer[] {
  const ssh: SshSpec = { principals: {}, where: WHERE, ...change }
  return certificateLayers(
    ssh,
    certificatesOf(ssh, { authorities: target, revokedKeys: bytes('OF THE TARGET') }),
  )
}

const files = (all: readonly Layer[]) =>
  Object.fromEntries(
    all.flatMap((layer) =>
      layer.kind === 'file' ? [[layer.path, Buffer.from(layer.content).toString()]] : [],
    ),
  )

test('without a CA nothing is done; [] in a definition says so', () => {
  expect(layers({}, [])).toEqual([])
  expect(layers({ ca: [] })).toEqual([])
})

test('all CAs of a rotation are trusted; what the target refuses is refused', () => {
  expect(files(layers({}))).toEqual({
    '/etc/ssh/trusted_user_ca_keys': 'ssh-ed25519 AAAA new\nssh-ed25519 BBBB old\n',
    '/etc/ssh/revoked_keys': 'OF THE TARGET',
    '/etc/ssh/sshd_config.d/05-imagebuild-certificates.conf':
      'TrustedUserCAKeys /etc/ssh/trusted_user_ca_keys\nRevokedKeys /etc/ssh/revoked_keys\n',
  })
})

test('a definition’s own CA, principals and revocations', () => {
  const written = files(
    layers({
      ca: ['ssh-ed25519 CCCC own'],
      principals: { debian: ['admin', 'ops'], root: ['rescue'] },
      revokedKeys: bytes('SSHKRL'),
    }),
  )
  expect(written).toMatchObject({
    '/etc/ssh/trusted_user_ca_keys': 'ssh-ed25519 CCCC own\n',
    '/etc/ssh/revoked_keys': 'SSHKRL',
    '/etc/ssh/auth_principals/debian': 'admin\nops\n',
    '/etc/ssh/auth_principals/root': 'rescue\n',
  })
  expect(written['/etc/ssh/sshd_config.d/05-imagebuild-certificates.conf']).toContain(
    'AuthorizedPrincipalsFile /etc/ssh/auth_principals/%u\n',
  )
})

test('sshd’s first match wins, so ours comes before cloud-init’s', () => {
  const [dropIn = ''] = Object.keys(files(layers({}))).filter((path) => path.includes('sshd_config.d'))
  expect([dropIn, '/etc/ssh/sshd_config.d/50-cloud-init.conf'].sort()[0]).toBe(dropIn)
})

test('the list of what is revoked is there from the beginning, empty', () => {
  const ssh: SshSpec = { principals: {}, where: WHERE }
  const written = files(certificateLayers(ssh, certificatesOf(ssh, { authorities: CAS })))
  expect(written['/etc/ssh/revoked_keys']).toBe('')
})
