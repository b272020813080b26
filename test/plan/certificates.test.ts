import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { execa } from 'execa'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { Layer, SshSpec } from '../../src/definition/spec.ts'
import { certificateLayers, certificatesOf } from '../../src/plan/certificates.ts'
import { generateKeyPair } from '../../src/ssh/openssh.ts'
import { noNamespace } from '../ssh/sshd.ts'
import { bytes, imageSpec, WHERE } from './spec.ts'

const CAS = ['ssh-ed25519 AAAA new', 'ssh-ed25519 BBBB old']

function layers(change: Partial<SshSpec>, target: readonly string[] = CAS): Layer[] {
  const ssh: SshSpec = { principals: {}, where: WHERE, ...change }
  return certificateLayers(
    imageSpec({ ssh }),
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

test('without a CA, keys that the definition itself revokes are refused all the same', () => {
  const written = layers({ ca: [], revokedKeys: bytes('KRL') })
  expect(files(written)).toEqual({ '/etc/ssh/revoked_keys': 'KRL' })
  expect(written.map(({ name }) => name)).toEqual([
    'SSH certificates: /etc/ssh/revoked_keys',
    'SSH certificates: what is revoked is refused',
  ])
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
  const written = files(certificateLayers(imageSpec({ ssh }), certificatesOf(ssh, { authorities: CAS })))
  expect(written['/etc/ssh/revoked_keys']).toBe('')
})

describe('an image that is built upon another', () => {
  const source = { kind: 'image', image: 'base', architecture: 'amd64', where: WHERE } as const
  const child = (ssh: Partial<SshSpec>, target: Parameters<typeof certificatesOf>[1]) => {
    const spec = imageSpec({ source, ssh: { principals: {}, where: WHERE, ...ssh } })
    return certificateLayers(spec, certificatesOf(spec.ssh, target))
  }

  test('without a CA forgets its parent’s; with one it does so first', () => {
    const forgetting = child({ ca: [] }, { authorities: CAS })
    expect(forgetting.map(({ kind, name }) => [kind, name])).toEqual([
      ['shell', 'SSH certificates: nothing of the parent’s'],
      ['shell', 'SSH certificates: what is revoked is refused'],
    ])
    expect(child({}, { authorities: CAS })[0]).toEqual(forgetting[0])
  })

  test('a list of revoked keys, here the target’s, takes the place of the file in its parent’s image', () => {
    const written = child({}, { authorities: CAS, revokedKeys: bytes('OF THE TARGET') })
    expect(files(written)['/etc/ssh/revoked_keys']).toBe('OF THE TARGET')
    expect(files(child({}, { authorities: CAS }))).not.toHaveProperty('/etc/ssh/revoked_keys')
  })

  describe.skipIf(noNamespace)('in a machine', () => {
    let etc: string
    beforeEach(async () => {
      etc = await mkdtemp(join(tmpdir(), 'imagebuild-etc-ssh-'))
    })
    afterEach(async () => {
      await rm(etc, { recursive: true, force: true })
    })

    /** All scripts; without `sshd` but those that ask it. */
    async function run(layers: readonly Layer[], { sshd = false } = {}): Promise<void> {
      const scripts = layers.filter((layer) => layer.kind === 'shell')
      for (const { script } of scripts) {
        const text = Buffer.from(script).toString()
        if (text.includes('sshd -t') && !sshd) continue
        // This machine's own sshd is not reloaded.
        const inside =
          'systemctl() { :; }; mount --bind "$ETC" /etc/ssh && PATH=$PATH:/usr/sbin && eval "$SCRIPT"'
        await execa('unshare', ['-m', '/bin/sh', '-eu', '-c', inside], { env: { ETC: etc, SCRIPT: text } })
      }
    }

    test('the parent’s trust goes, what it has revoked and all else stays', async () => {
      await mkdir(join(etc, 'sshd_config.d'))
      await mkdir(join(etc, 'auth_principals'))
      const inherited = {
        'sshd_config.d/05-imagebuild-certificates.conf': 'TrustedUserCAKeys /etc/ssh/trusted_user_ca_keys\n',
        'sshd_config.d/50-cloud-init.conf': 'PasswordAuthentication no\n',
        'auth_principals/ops': 'admins\n',
        trusted_user_ca_keys: 'ssh-ed25519 AAAA old\n',
        revoked_keys: 'OF THE PARENT',
      }
      for (const [path, content] of Object.entries(inherited)) await writeFile(join(etc, path), content)
      await run(child({}, { authorities: CAS }))
      expect((await readdir(etc)).sort()).toEqual(['revoked_keys', 'sshd_config.d'])
      expect(await readdir(join(etc, 'sshd_config.d'))).toEqual(['50-cloud-init.conf'])
      expect(await readFile(join(etc, 'revoked_keys'), 'utf8')).toBe('OF THE PARENT')
    })

    test('without a CA goes on refusing what its parent has revoked, by an sshd that agrees', async () => {
      await mkdir(join(etc, 'sshd_config.d'))
      await writeFile(join(etc, 'sshd_config'), 'Include /etc/ssh/sshd_config.d/*.conf\n')
      await execa('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', join(etc, 'ssh_host_ed25519_key')])
      const dropIn = join(etc, 'sshd_config.d/05-imagebuild-certificates.conf')
      const layers = child({ ca: [] }, { authorities: CAS })
      await writeFile(dropIn, 'TrustedUserCAKeys /etc/ssh/trusted_user_ca_keys\n')
      await run(layers, { sshd: true })
      expect(await readdir(join(etc, 'sshd_config.d'))).toEqual([])
      await writeFile(join(etc, 'revoked_keys'), (await generateKeyPair('revoked')).publicKey)
      await run(layers, { sshd: true })
      expect(await readFile(dropIn, 'utf8')).toBe('RevokedKeys /etc/ssh/revoked_keys\n')
      await writeFile(join(etc, 'sshd_config'), 'RevokedKeys none\n')
      await expect(run(layers, { sshd: true })).rejects.toThrow(/sshd does not read .*sets RevokedKeys/)
    })

    test('whose parent has no certificates gets an empty list of what is revoked', async () => {
      await run(child({}, { authorities: CAS }))
      expect(await readFile(join(etc, 'revoked_keys'), 'utf8')).toBe('')
    })
  })
})
