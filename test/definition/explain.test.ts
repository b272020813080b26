import { writeFile } from 'node:fs/promises'
import { describe, expect, test } from 'vitest'
import { mistakesOf, projectOnDisk } from './project-on-disk.ts'

const HEAD = 'name: a\nsource: { release: debian/12 }\n'

describe('keys', () => {
  test('an unknown key, with what was meant', async () => {
    expect(await mistakesOf(`${HEAD}provison: []\n`)).toEqual([
      '3:1 unknown key `provison` (did you mean `provision`?)',
    ])
  })
  test('an unknown key that is like no other, with what there is', async () => {
    expect(await mistakesOf('name: a\nsource:\n  release: debian/12\n  zzz: 1\n')).toEqual([
      '4:3 unknown key `zzz` (known here: release, url, checksum, format, bootstrap, image, architecture, fallback)',
    ])
  })
  test('within a list and a union, at the key itself', async () => {
    expect(
      await mistakesOf(`${HEAD}provision:\n  - shell: { scrpt: x, script: y }\n`, { 'images/a/y': 'true' }),
    ).toEqual(['4:14 unknown key `scrpt` (did you mean `script`?)'])
  })
  test('a missing key, at what should hold it', async () => {
    expect(await mistakesOf('name: a\nsource:\n  bootstrap:\n    suite: bookworm\n')).toEqual([
      '3:3 `bootstrap` needs `distribution`',
    ])
    expect(await mistakesOf('kind: vm\nsource: { release: debian/12 }\n')).toEqual([
      '1:1 this file needs `name`',
    ])
  })
  test('a key that is there twice', async () => {
    expect(await mistakesOf(`${HEAD}name: a\n`)).toEqual(['3:1 this key is here twice (leave one of them)'])
  })
  test('merge keys are no keys', async () => {
    const text = `${HEAD}provision:\n  - &one { shell: 'true' }\n  - { <<: *one, name: x }\n`
    expect(await mistakesOf(text)).toContain(
      '5:7 unknown key `<<` (merge keys are no part of YAML 1.2: write the keys out)',
    )
  })
})

describe('values', () => {
  test.each([
    ['hardware: { cores: "2" }', '3:20 `cores` needs a number, not text (take off the quotes)'],
    ['hardware: { cores: two }', '3:20 `cores` needs a number, not text'],
    ['hardware: { cores: 0 }', '3:20 `cores` must be at least 1, not `0`'],
    ['hardware: { cores: 513 }', '3:20 `cores` must be at most 512, not `513`'],
    ['hardware: { memory: 1.5 }', '3:21 `memory` needs a whole number, not `1.5` (in MiB: memory: 2048)'],
    [
      'hardware: { bios: uefi }',
      '3:19 `bios` must be one of seabios, ovmf, not `uefi` (did you mean `ovmf`?)',
    ],
    [
      'hardware: { bios: sebios }',
      '3:19 `bios` must be one of seabios, ovmf, not `sebios` (did you mean `seabios`?)',
    ],
    ['hardware: { disk: 8 }', '3:19 `disk` needs text, not a number (with a unit: disk: 8G)'],
    ['hardware: { disk: 8GB }', '3:19 `disk` must be a size with a unit: 512M, 8G or 1T, not `8GB`'],
    ['hardware: []', '3:11 `hardware` needs a map, not a list'],
    ['hardware:', '3:1 `hardware` is empty: it needs a map'],
    ['kind: lxx', '3:7 `kind` must be one of vm, lxc, not `lxx` (did you mean `lxc`?)'],
    ['kind: qemu', '3:7 `kind` must be one of vm, lxc, not `qemu` (did you mean `vm`?)'],
    ['kind: container', '3:7 `kind` must be one of vm, lxc, not `container` (did you mean `lxc`?)'],
    [
      'hardening: cis-l2',
      '3:12 `hardening` needs `none` or `baseline` or `cis-l1` or a map, not `cis-l2` (did you mean `cis-l1`?)',
    ],
    [
      'hardening: { except: [firewall-fail2ban] }',
      '3:23 `except` needs a map, not a list (did you mean a map, each item with its reason: `except: { firewall-fail2ban: <the reason> }`?)',
    ],
    [
      'hardening: { except: [{ firewall-fail2ban: elsewhere }] }',
      '3:25 `except` needs a map, not a list (did you mean a map, each item with its reason: `except: { firewall-fail2ban: elsewhere }`?)',
    ],
    ['kind:', '3:1 `kind` is empty: it must be one of vm, lxc'],
    [
      'provision: {}',
      '3:12 `provision` needs a list, not a map (a list of layers: - packages: [curl], - shell: ldconfig, - reboot: true, …)',
    ],
    ['cloudInit: [1]', "3:13 an item of `cloudInit` needs text, not a number (put it in quotes: '1')"],
    [
      'template: { tags: [Foo] }',
      '3:20 an item of `tags` must be a Proxmox tag in lower case that does not begin with ib-, not `Foo`',
    ],
    ['build: { timeout: 5 min }', '3:19 `timeout` must be a number with a unit: 90s, 10m or 1h, not `5 min`'],
  ])('%s', async (line, expected) => {
    expect(await mistakesOf(`${HEAD}${line}\n`)).toEqual([expected])
  })
})

describe('values that can be written in several ways', () => {
  test.each([
    [
      'packages: curl',
      '4:15 `packages` needs a list or a map, not `curl` (did you mean a list: `packages: [curl]`?)',
    ],
    [
      'packages: curl nginx',
      '4:15 `packages` needs a list or a map, not `curl nginx` (did you mean a list: `packages: [curl, nginx]`?)',
    ],
    ['packages: []', '4:15 `packages` needs at least one item'],
    [
      'packages: [Curl]',
      '4:16 an item of `packages` must be a Debian package name, with =version if need be, not `Curl`',
    ],
    [
      'packages: [g++, curl-]',
      '4:21 an item of `packages` must be a Debian package name, with =version if need be, not `curl-`',
    ],
    [
      'packages: { upgrade: yes }',
      '4:26 `upgrade` needs true or false, not text (YAML 1.2 knows true and false)',
    ],
    ['shell: [x]', '4:13 `shell` needs text or a map, not a list'],
    ["shell: ''", '4:12 `shell` must not be empty'],
    ['reboot: yes', '4:13 `reboot` needs `true` or a map, not `yes` (YAML 1.2 knows true and false)'],
    ["{ shell: 'true', env: { 1X: y } }", '4:29 the name `1X` must be the name of an environment variable'],
    ["{ shell: 'true', env: { X: [] } }", '4:32 `X` needs text or a number or true or false, not a list'],
    [
      "file: { path: /x, content: '', mode: 0644 }",
      "4:42 `mode` needs text, not a number (put it in quotes: '0644')",
    ],
  ])('%s', async (layer, expected) => {
    expect(await mistakesOf(`${HEAD}provision:\n  - ${layer}\n`)).toEqual([expected])
  })
})

describe('keys that belong together', () => {
  test.each([
    ['source: {}', '2:1 `source` needs one of release, url, bootstrap or image'],
    [
      'source: { release: debian/12, image: a }',
      '2:31 `image` cannot stand beside `release`: a source is one thing',
    ],
    ['source: { url: https://x.example/a.raw }', '2:11 `url` needs `checksum` beside it'],
    ['source: { release: debian/12, format: raw }', '2:31 `format` only means something beside `url`'],
    [
      'source: { bootstrap: { distribution: debian, suite: sid }, fallback: bootstrap }',
      '2:60 `fallback` only means something beside `release`',
    ],
  ])('%s', async (line, expected) => {
    expect(await mistakesOf(`name: a\n${line}\n`)).toContain(expected)
  })
  test.each([
    ['provision: [{}]', '3:13 an item of `provision` needs one of packages, file, shell or reboot'],
    [
      'provision: [{ reboot: true, shell: x }]',
      '3:15 `reboot` cannot stand beside `shell`: one layer does one thing',
    ],
    ['provision: [{ reboot: true, env: { A: b } }]', '3:29 `env` only means something beside `shell`'],
    ['provision: [{ file: { path: /x } }]', '3:15 `file` needs one of source or content'],
    [
      'provision: [{ file: { path: /x, content: a, source: b } }]',
      '3:33 `content` cannot stand beside `source`: a file has one content',
    ],
    ['hardware: { efidisk: {} }', '3:13 `efidisk` only means something with `bios: ovmf`'],
  ])('%s', async (line, expected) => {
    expect(await mistakesOf(`${HEAD}${line}\n`)).toContain(expected)
  })
})

describe('all at once', () => {
  test('what the schema, the rules and the files behind it find, in the order of the file', async () => {
    const text = `
name: b
kind: vmx
source:
  release: debian12
  format: raw
hardware:
  cores: "2"
provision:
  - packages: curl
  - shell: { script: missing.sh }
cloudInit: [nothing]
`.trimStart()
    expect((await mistakesOf(text)).map((mistake) => mistake.split(' ')[0])).toEqual([
      '1:7',
      '2:7',
      '5:3',
      '7:10',
      '9:15',
      '10:22',
      '11:13',
    ])
  })
  test('anchors are followed to where the mistake is', async () => {
    const text = `${HEAD}provision:\n  - file: { path: /a, content: &text 5 }\n  - file: { path: /b, content: *text }\n`
    expect(await mistakesOf(text)).toEqual([
      "4:38 `content` needs text, not a number (put it in quotes: '5')",
    ])
  })
})

describe('text that is not YAML', () => {
  test.each([
    [
      'name: a\nsource:\n\trelease: x\n',
      '3:1 this is not YAML: a tab cannot indent (YAML is indented with spaces)',
    ],
    ['', '1:1 the file is empty'],
    ['# only a comment\n', '1:1 the file is empty'],
    ['- a\n', '1:3 this file needs a map, not a list'],
    ['just text\n', '1:1 this file needs a map, not text'],
  ])('%j', async (text, expected) => {
    expect(await mistakesOf(text)).toEqual([expected])
  })
  test('bytes that are not UTF-8', async () => {
    await using project = await projectOnDisk({ 'images/a/image.yaml': '' })
    await writeFile(`${project.root}/images/a/image.yaml`, Uint8Array.of(0x6e, 0xff, 0xfe))
    expect(await project.mistakes()).toEqual([
      'images/a/image.yaml:1:1 the file cannot be read: it is not UTF-8 text',
    ])
  })
  test('a second document', async () => {
    expect(await mistakesOf(`${HEAD}---\nname: b\n`)).toEqual([
      '3:1 this is not YAML: there is more than one document in the file (take out the line ---)',
    ])
  })
  test('an open bracket, an unknown alias', async () => {
    expect((await mistakesOf('name: [a\n'))[0]).toMatch(/^\d:\d+ this is not YAML: /)
    expect((await mistakesOf('name: *nobody\nsource: {}\n'))[0]).toMatch(/^1:\d+ /)
  })
  test('aliases that multiply', async () => {
    const rows = Array.from(
      { length: 9 },
      (_, row) => `a${row + 1}: &a${row + 1} [${'*a0, '.replace('0', String(row)).repeat(9)}]`,
    )
    expect((await mistakesOf(`a0: &a0 [x, x]\n${rows.join('\n')}\n`)).join()).toContain(
      'aliases cannot be resolved',
    )
  })
})
