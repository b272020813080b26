import { readFile } from 'node:fs/promises'
import { afterAll, expect, test } from 'vitest'
import { SigningKey } from '../updates/signed-archive.ts'
import { mistakesOf, projectOnDisk } from './project-on-disk.ts'

const key = new SigningKey()
const binary = await readFile(key.keyring)
afterAll(() => key[Symbol.dispose]())

const image = (rest: string) => `name: a\nsource: { release: debian/12 }\n${rest}`
const repositories = (...all: string[]) => image(`updates: { repositories: [${all.join(', ')}] }\n`)

test('repositories of a definition, with their keys', async () => {
  await using project = await projectOnDisk({
    'images/a/image.yaml': repositories(
      '{ url: https://deb.example/debian/, suite: trixie, key: deb.asc }',
      '{ url: http://x, suite: stable/updates, components: [main, extra], key: deb.gpg, security: true }',
    ),
    'images/a/deb.gpg': binary,
    'images/a/deb.asc': `Ours:\n\n${key.armored()}`,
  })
  const [first, second] = (await project.load()).images.get('a')?.repositories ?? []
  expect(first).toEqual({
    ...{ url: 'https://deb.example/debian', suite: 'trixie', components: ['main'], isSecurity: false },
    keyring: binary,
    where: { file: `${project.root}/images/a/image.yaml`, line: 3, column: 29 },
  })
  expect(second).toMatchObject({
    suite: 'stable/updates',
    components: ['main', 'extra'],
    isSecurity: true,
    keyring: binary,
  })
})

test('an image looks where its ancestors do; where both name a suite, at its own', async () => {
  const child = (name: string, parent: string, rest = '') =>
    `name: ${name}\nsource: { image: ${parent} }\n${rest}`
  const one = (url: string, key: string, more = '') => `{ url: ${url}, suite: s, key: ${key}${more} }`
  await using project = await projectOnDisk({
    'images/a/image.yaml': repositories(one('http://x', 'k'), one('http://y', 'k')),
    'images/b/image.yaml': child(
      'b',
      'a',
      `updates: { repositories: [${one('http://y/', 'k', ', security: true')}] }\n`,
    ),
    'images/c/image.yaml': child('c', 'b'),
    'images/a/k': key.armored(),
    'images/b/k': key.armored(),
  })
  const { images } = await project.load()
  const urls = (name: string) =>
    images.get(name)?.repositories.map(({ url, isSecurity }) => `${url} ${isSecurity}`)
  expect(urls('a')).toEqual(['http://x false', 'http://y false'])
  expect(urls('b')).toEqual(['http://y true', 'http://x false'])
  expect(urls('c')).toEqual(urls('b'))
})

const at = (rest: string) => `{ url: http://x, suite: s, ${rest} }`
test.each([
  [at('key: gone'), '3:59 there is no `gone` in '],
  [at('key: ../b/k'), '3:59 `../b/k` is outside of the image’s folder'],
  [at('key: no'), '3:59 `no` is no OpenPGP public key (the file that apt has in Signed-By'],
  [at('key: empty'), '3:59 `empty` is no OpenPGP public key'],
  [at('key: cut'), '3:59 `cut` is no OpenPGP public key'],
  [at('key: secret'), '3:59 `secret` is a private key (export its public half: gpg --armor --export)'],
  [at('key: secret.asc'), '3:59 `secret.asc` is a private key'],
  [at('key: keybox'), '3:59 `keybox` is a keybox of GnuPG (export the keys: gpg --armor --export)'],
  [`${at('key: k')}, ${at('key: k')}`, '3:66 the suite `s` of http://x is here twice'],
  ['{ url: http://a:b@x, suite: s, key: k }', '3:34 `url` must be an http or https URL without a password'],
  ['{ url: ftp://x, suite: s, key: k }', '3:34 `url` must be an http or https URL'],
  ['{ url: http://x, suite: ./, key: k }', '3:51 `suite` must be a suite such as trixie'],
  ['{ url: http://x, suite: s }', '3:29 an item of `repositories` needs `key`'],
  [at('component: [main], key: k'), '3:54 unknown key `component` (did you mean `components`?)'],
  [at('components: [], key: k'), '3:66 `components` needs at least one item'],
])('%s', async (written, expected) => {
  const found = await mistakesOf(repositories(written), {
    'images/a/k': key.armored(),
    'images/a/no': 'deb http://x s main\n',
    'images/a/empty': '-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n-----END PGP PUBLIC KEY BLOCK-----\n',
    'images/a/cut': binary.subarray(0, -1),
    'images/a/secret': key.secret(),
    'images/a/secret.asc': key.secret('armor'),
    'images/a/keybox': '\0\0\0 \x01\x01\0\x02KBXf',
  })
  expect(found).toEqual([expect.stringContaining(expected)])
})

test.each([
  ['30d', 2_592_000],
  ['12h', 43_200],
])('a template that is older than %s is stale', async (written, seconds) => {
  await using project = await projectOnDisk({
    'images/a/image.yaml': image(`template: { maxAge: ${written} }\n`),
  })
  expect((await project.load()).images.get('a')?.template.maxAge).toBe(seconds)
})

test('an age needs a unit', async () => {
  expect(await mistakesOf(image('template: { maxAge: 30 }\n'))).toEqual([
    '3:21 `maxAge` needs text, not a number (with a unit: maxAge: 30d)',
  ])
})
