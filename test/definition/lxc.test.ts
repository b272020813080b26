import { describe, expect, test } from 'vitest'
import { mistakesOf, projectOnDisk } from './project-on-disk.ts'

const lxc = (rest: string) => `name: a\nkind: lxc\n${rest}`
const FROM = 'source: { release: debian/12 }\n'
const SUM = `checksum: 'sha256:${'0'.repeat(64)}'`

describe('a container', () => {
  test('is loaded with its defaults', async () => {
    await using project = await projectOnDisk({ 'images/a/image.yaml': lxc(FROM) })
    expect((await project.load()).images.get('a')).toMatchObject({
      kind: 'lxc',
      source: { kind: 'release', release: 'debian/12', fallback: false, architecture: 'amd64' },
      hardware: { cores: 1, memory: 512, swap: 512, rootfs: 4 * 2 ** 30 },
      unprivileged: true,
      features: { nesting: true },
      template: { tags: [], archive: false, keep: 3 },
    })
  })

  test('with everything', async () => {
    const text = lxc(
      'source: { appliance: debian-12-standard_12.7-1_amd64.tar.zst }\n' +
        'hardware: { cores: 2, memory: 2048, swap: 0, rootfs: 12G }\n' +
        'unprivileged: false\nfeatures: { nesting: true, keyctl: true, fuse: true, mknod: true, mount: [nfs] }\n' +
        'template: { tags: [docker], archive: true }\n',
    )
    await using project = await projectOnDisk({ 'images/a/image.yaml': text })
    expect((await project.load()).images.get('a')).toMatchObject({
      source: { kind: 'appliance', appliance: 'debian-12-standard_12.7-1_amd64.tar.zst' },
      hardware: { cores: 2, memory: 2048, swap: 0, rootfs: 12 * 2 ** 30 },
      unprivileged: false,
      features: { nesting: true, keyctl: true, fuse: true, mknod: true, mount: ['nfs'] },
      template: { tags: ['docker'], archive: true, keep: 3 },
    })
  })

  test.each([
    ['features: { nesting: false }', { nesting: false }],
    ['features: {}', { nesting: true }],
    // What is for root@pam alone takes nothing away.
    ['features: { fuse: true }', { nesting: true, fuse: true }],
    // Proxmox gives tokens no feature of those.
    ['unprivileged: false', { nesting: false }],
    ['unprivileged: false\nfeatures: { nesting: true }', { nesting: true }],
  ])('with %j has the features %j', async (lines, features) => {
    await using project = await projectOnDisk({ 'images/a/image.yaml': lxc(`${FROM}${lines}\n`) })
    expect((await project.load()).images.get('a')).toMatchObject({ features })
  })

  test('without a kind, an image is a virtual machine, whose template has no archive', async () => {
    await using project = await projectOnDisk({ 'images/a/image.yaml': `name: a\n${FROM}` })
    const spec = (await project.load()).images.get('a')
    expect(spec?.kind).toBe('vm')
    expect(spec?.template).toEqual({ tags: [], keep: 3 })
    expect(spec).not.toHaveProperty('unprivileged')
  })
})

describe('what belongs to the other kind', () => {
  test.each([
    ['hardware: { cpu: host }', '4:13 `cpu` only means something with `kind: vm`'],
    ['hardware: { disk: 8G }', '4:13 `disk` only means something with `kind: vm`'],
    ['hardware: { rootfz: 8G }', '4:13 unknown key `rootfz` (did you mean `rootfs`?)'],
  ])('a container with %s', async (line, expected) => {
    expect(await mistakesOf(lxc(`${FROM}${line}\n`))).toEqual([expected])
  })
  test.each([
    ['hardware: { rootfs: 8G }', '3:13 `rootfs` only means something with `kind: lxc`'],
    ['hardware: { swap: 512 }', '3:13 `swap` only means something with `kind: lxc`'],
    ['unprivileged: true', '3:1 `unprivileged` only means something with `kind: lxc`'],
    ['features: { nesting: true }', '3:1 `features` only means something with `kind: lxc`'],
    ['template: { archive: true }', '3:13 `archive` only means something with `kind: lxc`'],
  ])('a virtual machine with %s', async (line, expected) => {
    expect(await mistakesOf(`name: a\n${FROM}${line}\n`)).toEqual([expected])
  })
  test('a virtual machine from an appliance', async () => {
    expect(await mistakesOf('name: a\nsource: { appliance: debian-12-standard }\n')).toContain(
      '2:11 `appliance` only means something with `kind: lxc`',
    )
  })
  test('a misspelt kind is taken for the nearest one, so that the rest is told in the same go', async () => {
    expect(await mistakesOf(`name: a\nkind: lcx\n${FROM}hardware: { cpu: host, swap: -1 }\n`)).toEqual([
      '2:7 `kind` must be one of vm, lxc, not `lcx` (did you mean `lxc`?)',
      '4:13 `cpu` only means something with `kind: vm`',
      '4:30 `swap` must be at least 0, not `-1`',
    ])
  })
})

describe('values', () => {
  test.each([
    ['hardware: { rootfs: 8 }', '4:21 `rootfs` needs text, not a number (with a unit: rootfs: 8G)'],
    ['hardware: { memory: 8 }', '4:21 `memory` must be at least 16, not `8`'],
    ['hardware: { swap: 512M }', '4:19 `swap` needs a number, not text (in MiB: swap: 512)'],
    ['unprivileged: no', '4:15 `unprivileged` needs true or false, not text (YAML 1.2 knows true and false)'],
    ['features: { nesting: 1 }', '4:22 `nesting` needs true or false, not a number'],
    ['features: { nestng: true }', '4:13 unknown key `nestng` (did you mean `nesting`?)'],
    [
      'features: { mount: nfs }',
      '4:20 `mount` needs a list, not text (did you mean a list: `mount: [nfs]`?)',
    ],
    [
      'features: { mount: [NFS] }',
      '4:21 an item of `mount` must be a file system type: nfs, cifs, …, not `NFS`',
    ],
    [
      'template: { archive: yes }',
      '4:22 `archive` needs true or false, not text (YAML 1.2 knows true and false)',
    ],
  ])('%s', async (line, expected) => {
    expect(await mistakesOf(lxc(`${FROM}${line}\n`))).toEqual([expected])
  })
})

describe('sources', () => {
  const source = (text: string) => lxc(`source: { ${text} }\n`)
  test.each([
    [
      'release: ubuntu/24.04-minimal',
      '3:20 unknown release `ubuntu/24.04-minimal` (the catalog has: debian/12, debian/13, ubuntu/24.04)',
    ],
    ['architecture: amd64', '3:1 `source` needs one of release, appliance, url, bootstrap or image'],
    [
      'release: debian/12, appliance: debian-12-standard',
      '3:31 `appliance` cannot stand beside `release`: a source is one thing',
    ],
    [
      'appliance: local:vztmpl/debian.tar.zst',
      '3:22 `appliance` must be a name from Proxmox’s appliance list: debian-13-standard, debian-13-standard_13.1-2_amd64.tar.zst, not `local:vztmpl/debian.tar.zst`',
    ],
    ['appliance: x, fallback: bootstrap', '3:25 `fallback` only means something beside `release`'],
    ['release: debian/12, format: tar.xz', '3:31 `format` only means something beside `url`'],
    [
      `format: qcow2, url: 'https://x.example/a.tar.xz', ${SUM}`,
      '3:19 `format` must be one of tar.zst, tar.xz, tar.gz, tar, not `qcow2`',
    ],
    [
      `url: 'https://x.example/root', ${SUM}`,
      '3:16 the name `root` does not tell the format (write `format: tar.zst`, `tar.xz`, `tar.gz` or `tar` beside it)',
    ],
    [
      `url: 'https://x.example/a.qcow2', ${SUM}`,
      '3:16 `a.qcow2` is a disk, and `kind: lxc` starts from an archive (for a virtual machine, write `kind: vm`)',
    ],
    [
      `url: 'https://x.example/a.iso', ${SUM}`,
      '3:16 `a.iso` is an ISO image, not a root file system (look for an archive of its root file system)',
    ],
  ])('%s', async (text, expected) => {
    expect(await mistakesOf(source(text))).toEqual([expected])
  })
  test('a virtual machine from an archive', async () => {
    expect(await mistakesOf(`name: a\nsource: { url: 'https://x.example/a.tar.gz', ${SUM} }\n`)).toEqual([
      '2:16 `a.tar.gz` is an archive, and `kind: vm` starts from a disk (for a container, write `kind: lxc`)',
    ])
  })
  test.each([
    ['a-root.tar.xz', 'tar.xz'],
    ['a.tar.zst', 'tar.zst'],
    ['a.tar.gz', 'tar.gz'],
    ['a.tgz', 'tar.gz'],
    ['a.txz', 'tar.xz'],
    ['a.tar', 'tar'],
  ])('the format of %s is guessed from its name', async (file, format) => {
    const text = source(`url: 'https://x.example/${file}', ${SUM}`)
    await using project = await projectOnDisk({ 'images/a/image.yaml': text })
    expect((await project.load()).images.get('a')?.source).toMatchObject({ kind: 'url', format })
  })
})

describe('parents', () => {
  const VM = 'name: b\nsource: { release: debian/12 }\n'
  const container = (more: string) => `name: b\nkind: lxc\n${FROM}${more}`
  const mistakes = async (child: string, parent: string) => {
    await using project = await projectOnDisk({ 'images/a/image.yaml': child, 'images/b/image.yaml': parent })
    return (await project.mistakes({ images: ['a'] })).map((text) => text.replace('images/a/image.yaml:', ''))
  }
  const CHILD = lxc('source: { image: b }\n')

  test('a container starts from one that keeps its archive', async () => {
    await using project = await projectOnDisk({
      'images/a/image.yaml': CHILD,
      'images/b/image.yaml': container('template: { archive: true }\n'),
    })
    expect([...(await project.load()).images.keys()]).toEqual(['b', 'a'])
  })
  test.each(['', 'template: { archive: false }\n', 'template: { tags: [x] }\n'])(
    'not from one without: %j',
    async (more) => {
      expect(await mistakes(CHILD, container(more))).toEqual([
        '3:18 `b` keeps no archive, and a container starts from its parent’s archive (write `template: { archive: true }` in images/b/image.yaml)',
      ])
    },
  )
  test('and cannot be told anything by cloud-init: its parent’s archive stays as it is', async () => {
    const child = `${CHILD}cloudInit: [base]\n`
    await using project = await projectOnDisk({
      'images/a/image.yaml': child,
      'images/b/image.yaml': container('template: { archive: true }\n'),
      'cloud-init/base.yaml': '#cloud-config\ntimezone: UTC\n',
    })
    const mistakes = await project.mistakes({ images: ['a'] })
    expect(mistakes).toEqual([
      expect.stringContaining('`cloudInit` cannot be applied to a container that starts from `b`'),
    ])
  })
  test('nor from a virtual machine, nor the other way round', async () => {
    expect(await mistakes(CHILD, VM)).toEqual([
      '3:18 `b` is a virtual machine, and `a` a container (start from an image with `kind: lxc`)',
    ])
    expect(
      await mistakes('name: a\nsource: { image: b }\n', container('template: { archive: true }\n')),
    ).toEqual(['2:18 `b` is a container, and `a` a virtual machine (start from an image with `kind: vm`)'])
  })
})
