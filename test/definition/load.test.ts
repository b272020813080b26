import { mkdir, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { InvalidDefinition } from '../../src/definition/diagnostics.ts'
import { inOneLine, mistakesOf, projectOnDisk } from './project-on-disk.ts'

const from = (source: string, name = 'a') => `name: ${name}\nsource: { ${source} }\n`
const DEBIAN = from('release: debian/12')

describe('a project', () => {
  test('is loaded with its defaults', async () => {
    await using project = await projectOnDisk({ 'images/a/image.yaml': DEBIAN })
    const { images, ...rest } = await project.load()
    expect(rest).toMatchObject({ root: project.root, namespace: 'home', imageNames: ['a'], warnings: [] })
    expect(rest.targets.lab).toEqual({
      kind: 'lab',
      storages: { disks: 'local', images: 'local', archives: 'local' },
      vmids: { templates: '9000-9099', claims: '9900-9999' },
      macPrefix: '02:1b',
      mirrors: { debian: {}, ubuntu: {} },
      privateHosts: [],
      ssh: { ca: [] },
    })
    const file = join(project.root, 'images/a/image.yaml')
    expect(images.get('a')).toEqual({
      name: 'a',
      kind: 'vm',
      source: {
        kind: 'release',
        release: 'debian/12',
        fallback: false,
        architecture: 'amd64',
        where: { file, line: 2, column: 1 },
      },
      hardware: {
        cores: 1,
        sockets: 1,
        cpu: 'x86-64-v2-AES',
        memory: 1024,
        bios: 'seabios',
        ostype: 'l26',
        vga: 'serial0',
      },
      cloudInit: [],
      layers: [],
      ssh: { principals: {}, where: { file, line: 1, column: 1 } },
      hardening: {
        profile: 'none',
        containers: false,
        postQuantum: false,
        except: {},
        where: { file, line: 1, column: 1 },
      },
      checks: [],
      repositories: [],
      template: { tags: [], keep: 3 },
      build: { bootTimeout: 900, timeout: 7200 },
      where: { file, line: 1, column: 1 },
    })
  })

  test('a mistake in another image does not stop one, but a mistake in a parent does', async () => {
    await using project = await projectOnDisk({
      'images/a/image.yaml': DEBIAN,
      'images/b/image.yaml': 'nonsense',
      'images/c/image.yaml': from('image: b', 'c'),
    })
    expect([...(await project.load({ images: ['a'] })).images.keys()]).toEqual(['a'])
    expect(await project.mistakes({ images: ['c'] })).toEqual([
      'images/b/image.yaml:1:1 this file needs a map, not text',
    ])
    expect(await project.mistakes()).toHaveLength(1)
    expect((await project.load({ images: [] })).imageNames).toEqual(['a', 'b', 'c'])
  })

  test('all mistakes of all files are told in one error, with their places', async () => {
    await using project = await projectOnDisk({
      'imagebuild.yaml': 'namespace: Home\ntargets: {}\n',
      'images/a/image.yaml': 'name: a\nsurce: {}\n',
    })
    const error = await project.load().catch((thrown) => thrown)
    expect(error).toBeInstanceOf(InvalidDefinition)
    expect(error).toMatchObject({ code: 'definition_invalid', exitCode: 65, what: '4 mistakes in 2 files' })
    expect(error.where).toEqual({ file: join(project.root, 'imagebuild.yaml'), line: 1, column: 12 })
    expect(error.output.join('\n')).toContain('did you mean `source`?')
    expect(error.toJSON().diagnostics).toHaveLength(4)
  })

  test('parents come before their children', async () => {
    await using project = await projectOnDisk({
      'images/a/image.yaml': from('image: b'),
      'images/b/image.yaml': from('image: c', 'b'),
      'images/c/image.yaml': from('release: debian/12', 'c'),
    })
    expect([...(await project.load()).images.keys()]).toEqual(['c', 'b', 'a'])
    expect([...(await project.load({ images: ['a'] })).images.keys()]).toEqual(['c', 'b', 'a'])
  })

  test('an image that does not exist is a mistake of the command line', async () => {
    await using project = await projectOnDisk({
      'images/debian-base/image.yaml': from('release: debian/12', 'debian-base'),
    })
    await expect(project.load({ images: ['debain-base'] })).rejects.toMatchObject({
      code: 'usage',
      next: 'did you mean `debian-base`?',
    })
  })

  test('a folder without image.yaml is told, and stops nothing', async () => {
    await using project = await projectOnDisk({ 'images/a/image.yml': DEBIAN, 'images/b/notes.txt': '' })
    const { warnings, images } = await project.load()
    expect(images.size).toBe(0)
    expect(warnings.map((found) => inOneLine(found, project.root))).toEqual([
      'images/a/image.yml:1:1 only image.yaml is read, not image.yml',
      'images/b/image.yaml:1:1 this folder holds no image.yaml',
    ])
  })
})

describe('names and parents', () => {
  test('the name is the folder’s', async () => {
    expect(await mistakesOf(from('release: debian/12', 'b'))).toEqual([
      '1:7 `name` must be a, as its folder is called (or rename the folder)',
    ])
  })
  test('a name that another image has', async () => {
    await using project = await projectOnDisk({
      'images/a/image.yaml': from('release: debian/12', 'b'),
      'images/b/image.yaml': from('release: debian/12', 'b'),
    })
    expect(await project.mistakes()).toEqual([
      'images/a/image.yaml:1:7 `name` must be a; images/b has that name already',
    ])
  })
  test('an unknown parent', async () => {
    expect(await mistakesOf(from('image: aa'))).toEqual(['2:18 there is no image `aa`'])
  })
  test('circles, each told once', async () => {
    await using project = await projectOnDisk({
      'images/a/image.yaml': from('image: b'),
      'images/b/image.yaml': from('image: c', 'b'),
      'images/c/image.yaml': from('image: b', 'c'),
      'images/d/image.yaml': from('image: d', 'd'),
    })
    expect(await project.mistakes()).toEqual([
      'images/b/image.yaml:2:18 an image cannot be built from itself: b → c → b',
      'images/d/image.yaml:2:18 an image cannot be built from itself: d → d',
    ])
  })
  test('another architecture than the parent’s', async () => {
    await using project = await projectOnDisk({
      'images/a/image.yaml': from('image: b'),
      'images/b/image.yaml': from('release: debian/12, architecture: arm64', 'b'),
    })
    expect(await project.mistakes()).toEqual([
      'images/a/image.yaml:2:18 `b` is arm64, and `a` would be amd64 (write `architecture: arm64`)',
    ])
  })
})

describe('sources', () => {
  const SUM = `checksum: 'sha256:${'0'.repeat(64)}'`
  test.each([
    [
      'release: debian12',
      '2:20 unknown release `debian12` (did you mean `debian/12`? (the catalog has: debian/12, debian/13, ubuntu/24.04, ubuntu/24.04-minimal))',
    ],
    [
      'release: plan9',
      '2:20 unknown release `plan9` (the catalog has: debian/12, debian/13, ubuntu/24.04, ubuntu/24.04-minimal)',
    ],
    [
      `url: 'https://x.example/a.img', ${SUM}`,
      '2:16 the name `a.img` does not tell the format (write `format: qcow2` or `format: raw` beside it (with .xz or .zst))',
    ],
    [
      `url: 'https://x.example/a.iso?x=.raw', ${SUM}`,
      '2:16 `a.iso` is an ISO image, not a disk (look for a cloud image of this system)',
    ],
    [
      `url: 'htps://x.example/a.raw', ${SUM}`,
      '2:16 `url` must be https, http or file, not htps (did you mean `https`?)',
    ],
    [`url: a.raw, ${SUM}`, '2:16 `url` must be a URL: https://…, http://… or file:…'],
    [
      `url: 'https://me:pass@x.example/a.raw', ${SUM}`,
      '2:16 `url` must not carry a user or a password (a definition is read by many)',
    ],
    [`url: 'file:', ${SUM}`, '2:16 `url` must be file: with a path: file:disk.qcow2, file:///srv/disk.qcow2'],
    [`url: 'file:///nowhere/a.raw', ${SUM}`, '2:16 there is no file /nowhere/a.raw'],
    [`url: 'file:.', ${SUM}, format: raw`, '2:16 images/a is not a plain file'],
    [
      'bootstrap: { distribution: debian, suite: bookworm, mirror: ftp://x }',
      '2:71 `mirror` must be an http or https URL without a password, not `ftp://x`',
    ],
  ])('%s', async (source, expected) => {
    const [mistake, ...more] = await mistakesOf(from(source))
    expect(more).toEqual([])
    expect(mistake).toBe(expected)
  })
  test('a url, its format guessed; file: is relative to the definition', async () => {
    await using project = await projectOnDisk({
      'images/a/image.yaml': from(`url: 'https://x.example/a.qcow2.xz?x=1', ${SUM}`),
      'images/b/image.yaml': from(`url: 'file:disk.raw', ${SUM}`, 'b'),
      'images/b/disk.raw': 'x',
    })
    const { images } = await project.load()
    expect(images.get('a')?.source).toMatchObject({
      kind: 'url',
      url: 'https://x.example/a.qcow2.xz?x=1',
      format: 'qcow2.xz',
      checksum: { algorithm: 'sha256', value: '0'.repeat(64) },
    })
    expect(images.get('b')?.source).toMatchObject({
      url: `file://${project.root}/images/b/disk.raw`,
      format: 'raw',
    })
  })
  test('a bootstrap, a release with fallback', async () => {
    await using project = await projectOnDisk({
      'images/a/image.yaml': from('bootstrap: { distribution: debian, suite: trixie, packages: [curl] }'),
      'images/b/image.yaml': from('release: debian/13, fallback: bootstrap', 'b'),
    })
    const { images } = await project.load()
    expect(images.get('a')?.source).toMatchObject({ kind: 'bootstrap', suite: 'trixie', packages: ['curl'] })
    expect(images.get('b')?.source).toMatchObject({ kind: 'release', fallback: true })
  })
})

describe('hardware', () => {
  const arm = 'name: a\nsource: { release: debian/12, architecture: arm64 }\n'
  test('arm64 gets what arm64 has', async () => {
    await using project = await projectOnDisk({ 'images/a/image.yaml': arm })
    expect((await project.load()).images.get('a')?.hardware).toMatchObject({ bios: 'ovmf', cpu: 'max' })
  })
  test.each([
    [arm, 'bios: seabios', '3:19 arm64 has no seabios (leave it out, or write ovmf)'],
    [arm, 'machine: q35', '3:22 arm64 has no machine `q35` (leave it out, or write virt)'],
    [arm, 'cpu: x86-64-v3', '3:18 `x86-64-v3` is no CPU of arm64 (leave it out, or write host or max)'],
    [DEBIAN, 'machine: virt', '3:22 `machine: virt` exists on arm64 alone (leave it out, or write q35)'],
    [
      DEBIAN,
      'bios: ovmf, efidisk: { efitype: 2m, pre-enrolled-keys: true }',
      '3:68 `pre-enrolled-keys` needs `efitype: 4m`',
    ],
  ])('%s %s', async (head, hardware, expected) => {
    expect(await mistakesOf(`${head}hardware: { ${hardware} }\n`)).toEqual([expected])
  })
})

describe('files that a definition names', () => {
  const script = (name: string) => `${DEBIAN}provision:\n  - shell: { script: ${name} }\n`
  test.each([
    ['missing.sh', /^4:22 there is no `missing.sh` in images\/a$/],
    ['../../secret', /^4:22 `..\/..\/secret` is outside of the image’s folder \(copy it into images\/a\)$/],
    ['link', /^4:22 `link` is a link to secret, outside of the image’s folder/],
    ['linked-folder/secret', /^4:22 `linked-folder\/secret` is a link to secret, /],
    ['folder', /^4:22 `folder` is a folder \(name one file per layer\)/],
    ['empty.sh', /^4:22 `empty.sh` is empty/],
    ['windows.sh', /^4:22 `windows.sh` has Windows line ends/],
  ])('%s', async (name, expected) => {
    await using project = await projectOnDisk({
      'images/a/image.yaml': script(name),
      'images/a/empty.sh': '\n',
      'images/a/windows.sh': '#!/bin/sh\r\ntrue\r\n',
      secret: 'x',
    })
    const folder = join(project.root, 'images/a')
    await mkdir(join(folder, 'folder'))
    await symlink('../../secret', join(folder, 'link'))
    await symlink('../..', join(folder, 'linked-folder'))
    const [mistake = '', ...more] = await project.mistakes()
    expect(more).toEqual([])
    expect(mistake.replace('images/a/image.yaml:', '')).toMatch(expected)
  })
  test('a link within the folder is followed', async () => {
    await using project = await projectOnDisk({
      'images/a/image.yaml': script('link'),
      'images/a/real.sh': 'true\n',
    })
    await symlink('real.sh', join(project.root, 'images/a/link'))
    expect((await project.load()).images.get('a')?.layers[0]).toMatchObject({ kind: 'shell' })
  })
  test('one that is too large to go through memory', async () => {
    await using project = await projectOnDisk({ 'images/a/image.yaml': script('large') })
    await writeFile(join(project.root, 'images/a/large'), '')
    const { truncate } = await import('node:fs/promises')
    await truncate(join(project.root, 'images/a/large'), 64 * 2 ** 20 + 1)
    expect(await project.mistakes()).toEqual([
      'images/a/image.yaml:4:22 `large` is larger than 64 MiB (let a shell layer download it, or make it a package)',
    ])
  })
})
