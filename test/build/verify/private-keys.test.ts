import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { execa } from 'execa'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { all, readFacts } from '../../../src/build/verify/facts.ts'
import { THIS_MACHINE } from './machine.ts'

/** Which private keys a machine tells of, in a tree that looks like one: by path and digest, never what is in them. */
let root: string

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'imagebuild-keys-'))
})
afterEach(async () => {
  await rm(root, { recursive: true, force: true })
})

const pem = (type: string, body = 'x') => `-----BEGIN ${type}-----\n${body}\n-----END ${type}-----\n`

async function told(files: Record<string, string>): Promise<string[]> {
  for (const [path, content] of Object.entries(files)) {
    await mkdir(dirname(join(root, path)), { recursive: true })
    await writeFile(join(root, path), content)
  }
  const facts = await readFacts(THIS_MACHINE, 'facts.sh', { env: { ROOT: root, SETTLE: '0' } })
  return all(facts, 'private-key')
}

const paths = (keys: readonly string[]) => keys.map((key) => key.slice(key.indexOf(' ') + 1)).sort()

test('keys of all kinds, whatever their files are called, and databases’ own', async () => {
  const keys = {
    'etc/ssl/private/web server.key': pem('PRIVATE KEY'),
    'etc/dovecot/private/dovecot.pem': `subject=/CN=x\n${pem('CERTIFICATE')}${pem('RSA PRIVATE KEY')}`,
    'etc/pki/tls/enc': pem('ENCRYPTED PRIVATE KEY'),
    'usr/local/etc/app/ec': pem('EC PRIVATE KEY'),
    'var/lib/mysql/server-key.pem': pem('RSA PRIVATE KEY'),
    'var/lib/postgresql/15/main/server.key': pem('PRIVATE KEY'),
  }
  expect(paths(await told(keys))).toEqual(
    Object.keys(keys)
      .map((path) => `/${path}`)
      .sort(),
  )
})

test('no public ones, no links, no container images, and not SSH’s, which are looked at elsewhere', async () => {
  await mkdir(join(root, 'etc/ssl'), { recursive: true })
  await symlink('../ssh/ssh_host_rsa_key', join(root, 'etc/ssl/link.key'))
  expect(
    await told({
      'etc/ssl/certs/ca.pem': pem('CERTIFICATE'),
      'etc/ssl/public.key': pem('PUBLIC KEY'),
      'etc/app/README': 'It looks like -----BEGIN PRIVATE KEY----- there.\n',
      'etc/ssh/ssh_host_rsa_key': pem('OPENSSH PRIVATE KEY'),
      'var/lib/docker/overlay2/a/test.key': pem('PRIVATE KEY'),
      'var/lib/containerd/a/test.key': pem('PRIVATE KEY'),
    }),
  ).toEqual([])
})

test('the digest is the file’s', async () => {
  const [key = ''] = await told({ 'etc/app/a.key': pem('PRIVATE KEY', 'SECRET') })
  const { stdout } = await execa('sha256sum', [join(root, 'etc/app/a.key')])
  expect(key).toBe(`${stdout.split(' ')[0]} /etc/app/a.key`)
})
