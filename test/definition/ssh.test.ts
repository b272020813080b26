import { execa } from 'execa'
import { expect, test } from 'vitest'
import { generateKeyPair } from '../../src/ssh/openssh.ts'
import { CONFIG, mistakesOf, mistakesOfConfig, projectOnDisk } from './project-on-disk.ts'

const image = (rest: string) => `name: a\nsource: { release: debian/12 }\n${rest}`
const one = (await generateKeyPair('one')).publicKey
const two = (await generateKeyPair('two')).publicKey

test('public keys, in the definition or in files beside it', async () => {
  await using project = await projectOnDisk({
    'images/a/image.yaml': image(
      `ssh:\n  ca: ['${one}', ca.pub]\n  principals: { debian: [admin, ops] }\n  revokedKeys: revoked\n`,
    ),
    'images/a/ca.pub': `# of the old days\n${two}\n\n`,
    'images/a/revoked': 'KRL',
  })
  const spec = (await project.load()).images.get('a')
  expect(spec?.ssh).toMatchObject({ ca: [one, two], principals: { debian: ['admin', 'ops'] } })
  expect(Buffer.from(spec?.ssh.revokedKeys ?? []).toString()).toBe('KRL')
})

test('what an image revokes, those that are built on it revoke too, unless they bring a list', async () => {
  const built = (name: string, parent: string, rest = '') =>
    `name: ${name}\nsource: { image: ${parent} }\n${rest}`
  await using project = await projectOnDisk({
    'images/a/image.yaml': image('ssh: { revokedKeys: list }\n'),
    'images/a/list': 'OF A',
    'images/b/image.yaml': built('b', 'a', 'ssh: { ca: [] }\n'),
    'images/c/image.yaml': built('c', 'b'),
    'images/d/image.yaml': built('d', 'b', 'ssh: { revokedKeys: list }\n'),
    'images/d/list': 'OF D',
  })
  const { images } = await project.load()
  const revoked = [...images].map(([name, { ssh }]) => [name, Buffer.from(ssh.revokedKeys ?? []).toString()])
  expect(Object.fromEntries(revoked)).toEqual({ a: 'OF A', b: 'OF A', c: 'OF A', d: 'OF D' })
  expect(images.get('c')?.ssh).not.toHaveProperty('ca')
})

test('without it, the target’s CA counts', async () => {
  await using project = await projectOnDisk({
    'imagebuild.yaml':
      'namespace: home\ntargets:\n  lab: { kind: lab, ssh: { ca: [../ca.pub, ssh-ca/two.pub], signer: ca, revokedKeys: krl } }\n'.replace(
        '../ca.pub',
        'one.pub',
      ),
    'one.pub': `${one}\n`,
    krl: 'KRL',
    // A file, though its name begins as a key does.
    'ssh-ca/two.pub': two,
    'images/a/image.yaml': image(''),
  })
  const { images, targets } = await project.load()
  expect(images.get('a')?.ssh).not.toHaveProperty('ca')
  expect(targets.lab?.ssh).toEqual({
    ca: [one, two],
    signer: `${project.root}/ca`,
    revokedKeys: `${project.root}/krl`,
  })
})

test.each([
  ['ssh: { ca: [nowhere.pub] }', '3:13 there is no `nowhere.pub` in '],
  [
    'ssh: { ca: [secret] }',
    '3:13 `secret` is a private key (name the public half of it, the file that ends with .pub)',
  ],
  ['ssh: { ca: [empty] }', '3:13 `empty` holds no public key'],
  ['ssh: { ca: [wrong] }', '3:13 `wrong` holds a line that is no public key: hello'],
  ['ssh: { ca: [ssh-ed25519 AAAA] }', '3:13 this is no public key (copy the whole line of the .pub file)'],
  [
    'ssh: { ca: [cert] }',
    '3:13 `cert` holds a line that is no public key: ssh-ed25519-cert-v01@openssh.com AAAA',
  ],
  ['ssh: { ca: [../a/../../x] }', '3:13 `../a/../../x` is outside of the image’s folder'],
  ['ssh: { principals: { debian: [] } }', '3:30 `debian` '],
  [
    "ssh: { principals: { debian: ['a b'] } }",
    '3:31 an item of `debian` must be a principal of a certificate',
  ],
  ['ssh: { revokedKeys: gone }', '3:21 there is no `gone` in '],
])('%s', async (line, expected) => {
  const found = await mistakesOf(image(`${line}\n`), {
    'images/a/secret': (await generateKeyPair('x')).privateKey,
    'images/a/empty': '# nothing\n',
    'images/a/wrong': 'hello\n',
    'images/a/cert': 'ssh-ed25519-cert-v01@openssh.com AAAA\n',
  })
  expect(found).toHaveLength(1)
  expect(found[0]?.slice(0, expected.length)).toBe(expected)
})

test('a target’s file that is not there', async () => {
  const config = CONFIG.replace('kind: lab', 'kind: lab, ssh: { ca: [no.pub] }')
  expect(await mistakesOfConfig(config)).toEqual([
    '3:33 there is no file `no.pub` (a public key, or a file of them: `imagebuild ssh-ca init` makes one)',
  ])
})

test('what is taken for a public key is one for ssh-keygen too', async () => {
  const { stdout } = await execa('ssh-keygen', ['-l', '-f', '-'], { input: `${one}\n${two}\n` })
  expect(stdout.split('\n')).toHaveLength(2)
})

test.each([
  ['/etc/ssh/auth_principals/ops', '`ssh.principals` says who may log in as whom'],
  ['/etc/ssh//trusted_user_ca_keys', '`ssh.ca` says whom it trusts'],
  ['/etc/ssh/revoked_keys', '`ssh.revokedKeys` says what it refuses'],
  ['/etc/ssh/sshd_config.d/05-imagebuild-certificates.conf', 'use another name for settings of your own'],
])('a layer’s own %s would be lost', async (path, hint) => {
  const found = await mistakesOf(
    image(`provision: [{ reboot: true }, { file: { path: ${path}, content: x } }]\n`),
  )
  expect(found).toEqual([`3:47 \`ssh\` looks after ${path} itself, after all layers (${hint})`])
})

test('other files of sshd are the definition’s own', async () => {
  const path = '/etc/ssh/sshd_config.d/40-mine.conf'
  expect(await mistakesOf(image(`provision: [{ file: { path: ${path}, content: x } }]\n`))).toEqual([])
})
