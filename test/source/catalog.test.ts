import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import {
  type CatalogId,
  catalogIds,
  datedFolders,
  isCatalogId,
  resolveRelease,
} from '../../src/source/catalog.ts'
import type { SourceContext } from '../../src/source/context.ts'
import { UBUNTU_CLOUD_IMAGE_KEY, UBUNTU_KEYRING } from '../../src/source/openpgp.ts'
import { type Answer, serveFiles } from './file-server.ts'

const folder = mkdtempSync(join(tmpdir(), 'imagebuild-catalog-'))
const keyring = join(folder, 'keyring.gpg')
const home = (name: string) => {
  const path = join(folder, name)
  execFileSync('mkdir', ['-m', '700', path])
  return path
}
const gpg = (homedir: string, args: string[], input?: string) =>
  execFileSync('gpg', ['--homedir', homedir, '--batch', '--quiet', '--passphrase', '', ...args], {
    ...(input !== undefined && { input }),
    stdio: ['pipe', 'pipe', 'ignore'],
  })
const sign = (homedir: string, text: string) => gpg(homedir, ['--detach-sign'], text)
let ours: string
let stranger: string

beforeAll(() => {
  ours = home('ours')
  stranger = home('stranger')
  for (const homedir of [ours, stranger]) {
    gpg(homedir, ['--quick-generate-key', 'Test <test@example.org>', 'ed25519', 'sign', 'never'])
  }
  gpg(ours, ['--output', keyring, '--export'])
})
afterAll(() => {
  for (const homedir of [ours, stranger]) execFileSync('gpgconf', ['--homedir', homedir, '--kill', 'all'])
  rmSync(folder, { recursive: true, force: true })
})

const sha256 = 'ab'.repeat(32)
const sha512 = 'cd'.repeat(64)
const listing = (...names: string[]) =>
  `<html><a href="../">Parent</a>${names.map((name) => `<a href="${name}">${name}</a>`).join('\n')}</html>`

async function withServer<T>(
  answers: Record<string, Answer | string | Buffer>,
  work: (ctx: SourceContext, url: string) => Promise<T>,
): Promise<T> {
  await using server = await serveFiles(answers)
  const ctx = {
    cacheDir: folder,
    signal: new AbortController().signal,
    baseUrls: { debian: `${server.url}/debian`, ubuntu: `${server.url}/ubuntu` },
    ubuntuKeyring: keyring,
  }
  return await work(ctx, server.url)
}

const nobleList = `${sha256} *ubuntu-24.04-server-cloudimg-amd64.img\n${'ef'.repeat(32)} *ubuntu-24.04-server-cloudimg-arm64.img\n`
const noble = (list: string, signature: Buffer | undefined) => ({
  '/ubuntu/releases/noble/': listing('release/', 'release-20250704/', 'release-20250805/'),
  '/ubuntu/releases/noble/release-20250805/SHA256SUMS': list,
  ...(signature && { '/ubuntu/releases/noble/release-20250805/SHA256SUMS.gpg': signature }),
})

test('the names', () => {
  expect(catalogIds()).toEqual({
    vm: [
      'debian/12',
      'debian/13',
      'ubuntu/22.04',
      'ubuntu/24.04',
      'ubuntu/26.04',
      'ubuntu/22.04-minimal',
      'ubuntu/24.04-minimal',
      'ubuntu/26.04-minimal',
    ],
    lxc: ['debian/12', 'debian/13', 'ubuntu/22.04', 'ubuntu/24.04', 'ubuntu/26.04'],
  })
  expect(isCatalogId('debian/12')).toBe(true)
  expect(isCatalogId('toString')).toBe(false)
})

test('the keyring holds the pinned key alone', () => {
  const listed = gpg(folder, ['--show-keys', '--with-colons', UBUNTU_KEYRING]).toString()
  expect([...listed.matchAll(/^fpr:+(\w+):/gm)].map((match) => match[1])).toEqual([UBUNTU_CLOUD_IMAGE_KEY])
  expect(UBUNTU_CLOUD_IMAGE_KEY).toBe('D2EB44626FDDC30B513D5BB71A5D6C4C7DB87C81')
})

test('dated folders, newest first', () => {
  const html = listing('daily/', '20251006-2257/', '20250814-2204/', '20251006-10000/', 'latest/')
  expect(datedFolders(html, 'debian')).toEqual(['20251006-10000', '20251006-2257', '20250814-2204'])
  expect(
    datedFolders(
      listing('release/', 'release-20250805.2/', 'release-20250805/', 'release-20250805.10/'),
      'ubuntu',
    ),
  ).toEqual(['20250805.10', '20250805.2', '20250805'])
})

describe('Debian', () => {
  const name = 'debian-12-generic-amd64-20251006-2257.qcow2'
  const list = `${'00'.repeat(64)}  debian-12-genericcloud-amd64-20251006-2257.qcow2\n${sha512}  ${name}\n`

  test('resolves to the newest dated release', () =>
    withServer(
      {
        '/debian/bookworm/': listing('20250814-2204/', '20251006-2257/', 'latest/'),
        '/debian/bookworm/20251006-2257/SHA512SUMS': list,
      },
      async (ctx, url) => {
        expect(await resolveRelease('debian/12', 'amd64', ctx)).toEqual({
          url: `${url}/debian/bookworm/20251006-2257/${name}`,
          checksum: { algorithm: 'sha512', value: sha512 },
          version: '20251006-2257',
          format: 'qcow2',
          identity: `sha512:${sha512}`,
        })
      },
    ))

  test('for arm64 too', async () => {
    const image = 'debian-13-generic-arm64-20260601-2520.qcow2'
    const answers = {
      '/debian/trixie/': listing('20260601-2520/', 'daily/', 'latest/'),
      '/debian/trixie/20260601-2520/SHA512SUMS': `${'00'.repeat(64)}  ${image.replace('arm64', 'amd64')}\n${sha512}  ${image}\n`,
    }
    await withServer(answers, async (ctx, url) => {
      const { url: found, checksum } = await resolveRelease('debian/13', 'arm64', ctx)
      expect(found).toBe(`${url}/debian/trixie/20260601-2520/${image}`)
      expect(checksum.value).toBe(sha512)
    })
  })

  test('passes over a folder that is still being filled', () =>
    withServer(
      {
        '/debian/bookworm/': listing('20251006-2257/', '20251101-2280/'),
        '/debian/bookworm/20251006-2257/SHA512SUMS': list,
      },
      async (ctx) => {
        expect((await resolveRelease('debian/12', 'amd64', ctx)).version).toBe('20251006-2257')
      },
    ))

  test.each<[string, Record<string, string>, object]>([
    ['no server folder', {}, { code: 'unreachable', why: expect.stringContaining('404') }],
    [
      'no dated folder',
      { '/debian/bookworm/': listing('latest/') },
      { code: 'unreachable', what: 'no release of debian/12 was found' },
    ],
    [
      'no list',
      { '/debian/bookworm/': listing('20251006-2257/') },
      { code: 'unreachable', what: expect.stringContaining('SHA512SUMS cannot be downloaded') },
    ],
    [
      'not in the list',
      {
        '/debian/bookworm/': listing('20251006-2257/'),
        '/debian/bookworm/20251006-2257/SHA512SUMS': `${sha512}  other.qcow2\n`,
      },
      {
        code: 'build_failed',
        what: expect.stringMatching(/does not list debian-12-generic-amd64-20251006-2257.qcow2$/),
      },
    ],
  ])('%s', (_, answers, error) =>
    withServer(answers, async (ctx) => {
      await expect(resolveRelease('debian/12', 'amd64', ctx)).rejects.toMatchObject(error)
    }),
  )
})

describe('Ubuntu', () => {
  test('resolves what the pinned key has signed', () =>
    withServer(noble(nobleList, sign(ours, nobleList)), async (ctx, url) => {
      expect(await resolveRelease('ubuntu/24.04', 'amd64', ctx)).toEqual({
        url: `${url}/ubuntu/releases/noble/release-20250805/ubuntu-24.04-server-cloudimg-amd64.img`,
        checksum: { algorithm: 'sha256', value: sha256 },
        version: '20250805',
        format: 'qcow2',
        identity: `sha256:${sha256}`,
      })
      expect((await resolveRelease('ubuntu/24.04', 'arm64', ctx)).identity).toBe(`sha256:${'ef'.repeat(32)}`)
    }))

  // Names as the lists of the two servers have them, with all that lies beside the image; 26.04 is also made for
  // newer processors (amd64v3).
  const beside = (file: string) =>
    ['amd64-azure.vhd.tar.gz', 'amd64-root.tar.xz', 'amd64.manifest', 'amd64.squashfs', 'amd64v3.img']
      .map((end) => `${'00'.repeat(32)} *${file}-${end}\n`)
      .join('')

  const RELEASES: [CatalogId, string, string][] = [
    ['ubuntu/22.04', 'releases/jammy', 'ubuntu-22.04-server-cloudimg'],
    ['ubuntu/24.04', 'releases/noble', 'ubuntu-24.04-server-cloudimg'],
    ['ubuntu/26.04', 'releases/resolute', 'ubuntu-26.04-server-cloudimg'],
    ['ubuntu/22.04-minimal', 'minimal/releases/jammy', 'ubuntu-22.04-minimal-cloudimg'],
    ['ubuntu/24.04-minimal', 'minimal/releases/noble', 'ubuntu-24.04-minimal-cloudimg'],
    ['ubuntu/26.04-minimal', 'minimal/releases/resolute', 'ubuntu-26.04-minimal-cloudimg'],
  ]

  test.each(RELEASES)('finds %s, for both architectures', async (id, folder, file) => {
    const sums = { amd64: sha256, arm64: 'ef'.repeat(32) }
    const list = `${beside(file)}${sums.amd64} *${file}-amd64.img\n${sums.arm64} *${file}-arm64.img\n`
    const at = `/ubuntu/${folder}/`
    const answers = {
      [at]: listing('release/', 'release-20260421/', 'release-20260918/'),
      [`${at}release-20260918/SHA256SUMS`]: list,
      [`${at}release-20260918/SHA256SUMS.gpg`]: sign(ours, list),
    }
    await withServer(answers, async (ctx, url) => {
      for (const arch of ['amd64', 'arm64'] as const) {
        expect(await resolveRelease(id, arch, ctx)).toEqual({
          url: `${url}${at}release-20260918/${file}-${arch}.img`,
          checksum: { algorithm: 'sha256', value: sums[arch] },
          version: '20260918',
          format: 'qcow2',
          identity: `sha256:${sums[arch]}`,
        })
      }
    })
  })

  test('says which list has no image for an architecture', async () => {
    const list = `${sha256} *ubuntu-22.04-minimal-cloudimg-amd64.img\n`
    const at = '/ubuntu/minimal/releases/jammy/'
    const answers = {
      [at]: listing('release-20260918/'),
      [`${at}release-20260918/SHA256SUMS`]: list,
      [`${at}release-20260918/SHA256SUMS.gpg`]: sign(ours, list),
    }
    await withServer(answers, async (ctx, url) => {
      await expect(resolveRelease('ubuntu/22.04-minimal', 'arm64', ctx)).rejects.toMatchObject({
        code: 'build_failed',
        what: `${url}${at}release-20260918/SHA256SUMS does not list ubuntu-22.04-minimal-cloudimg-arm64.img`,
        next: expect.stringContaining('choose another architecture'),
      })
    })
  })

  test.each<[string, () => Buffer | undefined, object]>([
    ['no signature', () => undefined, { what: expect.stringContaining('is not signed') }],
    [
      "a stranger's signature",
      () => sign(stranger, nobleList),
      { why: 'it was made with another key than the pinned one' },
    ],
    [
      'a list that was changed',
      () => sign(ours, 'something else'),
      { why: 'the list was changed after it was signed' },
    ],
    ['no signature at all', () => Buffer.from('<html>'), { what: expect.stringContaining('is not good') }],
  ])('refuses %s', (_, signature, error) =>
    withServer(noble(nobleList, signature()), async (ctx) => {
      await expect(resolveRelease('ubuntu/24.04', 'amd64', ctx)).rejects.toMatchObject({
        code: 'build_failed',
        ...error,
      })
    }),
  )

  test('refuses what the pinned keyring does not know', () =>
    withServer(noble(nobleList, sign(ours, nobleList)), async (ctx) => {
      const pinned = { ...ctx, ubuntuKeyring: UBUNTU_KEYRING }
      await expect(resolveRelease('ubuntu/24.04', 'amd64', pinned)).rejects.toMatchObject({
        code: 'build_failed',
        why: 'it was made with another key than the pinned one',
      })
    }))

  test('an image that the signed list lacks', async () => {
    const list = `${sha256} *ubuntu-24.04-server-cloudimg-s390x.img\n`
    await withServer(noble(list, sign(ours, list)), async (ctx) => {
      await expect(resolveRelease('ubuntu/24.04', 'amd64', ctx)).rejects.toMatchObject({
        code: 'build_failed',
        what: expect.stringContaining('does not list'),
      })
    })
  })
})
