import { describe, expect, test } from 'vitest'
import { ImagebuildError } from '../../src/core/errors.ts'
import { type CloudConfig, cloudConfig, toYaml } from '../../src/seed/cloud-config.ts'
import { noPyYaml, readWithPyYaml } from './python.ts'

/** Strings that YAML 1.1 takes for something else when they stand bare, or that YAML cannot hold as they are. */
const TRICKY = [
  '52:54:00:12:34:56',
  '02:00:00:00:00:01',
  '1:30',
  '12:34:56',
  '-1:30',
  '190:20:30.15',
  '+12:30',
  'no',
  'No',
  'NO',
  'yes',
  'on',
  'Off',
  'y',
  'N',
  'true',
  'False',
  'null',
  'Null',
  '~',
  '',
  '0',
  '-1',
  '+1',
  '1_000',
  '1_',
  '0o17',
  '017',
  '08',
  '0644',
  '0x1F',
  '0b101',
  '0b1_0',
  '1e3',
  '1.5',
  '1.',
  '.5',
  '-.5',
  '1.0e+5',
  '6.02E23',
  '1_000.5',
  '.inf',
  '-.INF',
  '.nan',
  '2001-12-14',
  '2001-12-14 21:59:43.10 -5',
  '2001-12-14t21:59:43Z',
  '<<',
  '=',
  '#x',
  'a #b',
  'a: b',
  'a:',
  '- a',
  '-',
  '?',
  '? a',
  '*a',
  '&a',
  '!a',
  '%a',
  '@a',
  '`a',
  '{a}',
  '[a]',
  "it's",
  '"q"',
  '|',
  '>',
  ' lead',
  'trail ',
  'a\nb',
  'a\nb\n',
  'a\n\nb\n\n',
  '\n',
  '  x\ny',
  '\ttab',
  'tab\there',
  '---',
  '...',
  '--- a',
  'C:\\x',
  '$6$salt$hash',
  '$(x)',
  'ä',
  '€',
  '😀',
  '\u0085',
  '\u2028',
  '\u00a0',
  '\ufeff',
  '\u0007',
  '\u007f',
  '\r',
  'a\r\nb',
  'x'.repeat(200),
  'word '.repeat(60).trim(),
  '#cloud-config',
]

describe('YAML for PyYAML', () => {
  test.skipIf(noPyYaml)(
    `${TRICKY.length} tricky strings survive as values and as keys${noPyYaml ? ` (skipped: ${noPyYaml})` : ''}`,
    () => {
      const document: CloudConfig = {
        list: TRICKY,
        map: Object.fromEntries(TRICKY.map((text) => [text, text])),
        nested: [
          {
            content: 'a: 1\n# b\n',
            empty: {},
            none: null,
            flags: [true, false],
            numbers: [0, -1, 1.5, 1e21, 420],
          },
        ],
      }
      expect(readWithPyYaml(toYaml(document))).toEqual(document)
    },
  )

  test.each([
    ['52:54:00:12:34:56', "'52:54:00:12:34:56'"],
    ['no', "'no'"],
    ['y', "'y'"],
    ['1_000', "'1_000'"],
    ['017', "'017'"],
    ['2001-12-14', "'2001-12-14'"],
    ['', "''"],
    ['~', "'~'"],
    ['a: b', "'a: b'"],
    ['a #b', "'a #b'"],
    ['plain words', 'plain words'],
    ['a\nb\n', '|\n  a\n  b'],
  ])('%j is written as %j', (text, yaml) => {
    expect(toYaml({ k: text })).toBe(`k: ${yaml}\n`)
  })

  test('long lines are not folded, equal parts are not written as references', () => {
    const part = { a: ['x '.repeat(100)] }
    const yaml = toYaml({ one: part, two: part })
    expect(yaml).not.toMatch(/[&*]|>-/)
    expect(yaml.split('\n').filter((line) => line.includes('x x'))).toHaveLength(2)
  })
})

describe('merging', () => {
  test('maps deeply, lists appended, in the order of the parts', () => {
    const built = cloudConfig()
      .merge({ apt: { conf: 'a' }, packages: ['one'], runcmd: ['x'] }, 'first')
      .merge({ apt: { preserve_sources_list: true }, packages: ['two', 'one'] }, 'second')
      .build()
    expect(built).toEqual({
      apt: { conf: 'a', preserve_sources_list: true },
      packages: ['one', 'two', 'one'],
      runcmd: ['x'],
    })
  })

  test('the same value twice is no contradiction', () => {
    expect(cloudConfig().merge({ locale: 'C' }, 'a').merge({ locale: 'C' }, 'b').build()).toEqual({
      locale: 'C',
    })
  })

  test.each<[string, CloudConfig, CloudConfig, string]>([
    ['values', { a: { b: 1 } }, { a: { b: 2 } }, 'a.b'],
    ['kinds', { a: ['x'] }, { a: 'x' }, 'a'],
    ['a map and a list', { a: { b: {} } }, { a: { b: [] } }, 'a.b'],
    ['null and a value', { a: null }, { a: false }, 'a'],
    ['a string and a number', { a: '1' }, { a: 1 }, 'a'],
  ])('different %s: an error that names both parts and the key, but no value', (_, one, two, path) => {
    const builder = cloudConfig().merge({ other: 1 }, 'zero').merge(one, 'one')
    const merge = () => builder.merge(two, 'two')
    expect(merge).toThrow(ImagebuildError)
    expect(merge).toThrow(/parts "one" and "two" contradict each other: both set /)
    expect(merge).toThrow(`both set ${path},`)
  })

  test('a secret in a contradiction is not printed', () => {
    const merge = () => cloudConfig().merge({ password: 'hunter2' }, 'a').merge({ password: 'hunter3' }, 'b')
    expect(merge).toThrow(/password/)
    expect(merge).not.toThrow(/hunter/)
  })

  test('override wins over what was there, orElse only fills gaps', () => {
    const builder = cloudConfig().merge({ a: 1, list: [1], map: { x: 1, y: 1 } }, 'one')
    builder
      .override({ a: 2, list: [2], map: { x: 2 } }, 'two')
      .orElse({ a: 3, list: [3], map: { y: 3, z: 3 }, b: 3 }, 'three')
    expect(builder.build()).toEqual({ a: 2, list: [2], map: { x: 2, y: 1, z: 3 }, b: 3 })
    // Who set it last is who is named.
    expect(() => builder.merge({ a: 4 }, 'four')).toThrow(/"two" and "four"/)
    expect(() => builder.merge({ map: { z: 4 } }, 'four')).toThrow(/"three" and "four"/)
  })

  test('parts stay as they were, and what is built is a copy', () => {
    const part: CloudConfig = { list: [{ a: 1 }] }
    const builder = cloudConfig().merge(part, 'one').merge(part, 'two')
    ;(builder.build().list as unknown[]).push('x')
    expect(part).toEqual({ list: [{ a: 1 }] })
    expect(builder.build()).toEqual({ list: [{ a: 1 }, { a: 1 }] })
  })

  test.each([
    ['a date', { at: [new Date(0)] }],
    ['undefined', { at: [undefined] }],
    ['NaN', { at: [Number.NaN] }],
    ['a bigint', { at: [1n] }],
    ['a function', { at: [() => 1] }],
    ['__proto__', JSON.parse('{"__proto__": {"polluted": true}}')],
  ])('refuses %s', (_, part) => {
    expect(() => cloudConfig().merge(part as never, 'odd')).toThrow(
      /the cloud-config part "odd" cannot be written/,
    )
    expect(({} as { polluted?: boolean }).polluted).toBeUndefined()
  })
})

describe('the typed parts', () => {
  test('a user, a host key, files, packages, commands', () => {
    const rendered = cloudConfig()
      .user({ name: 'ops', authorizedKeys: ['ssh-ed25519 AAAA ops'], sudo: true, groups: ['adm'] })
      .sshHostKey({ privateKey: '-----BEGIN\nKEY\n-----END\n', publicKey: 'ssh-ed25519 AAAA host' })
      .writeFile({ path: '/etc/motd', content: 'no\n', mode: 0o600, owner: 'root:adm' })
      .packages('a', 'b')
      .runCommand(['systemctl', 'start', 'x'])
      .render()
    expect(rendered).toBe(`#cloud-config
users:
  - name: ops
    lock_passwd: true
    shell: /bin/bash
    ssh_authorized_keys:
      - ssh-ed25519 AAAA ops
    sudo: ALL=(ALL) NOPASSWD:ALL
    groups:
      - adm
ssh_keys:
  ed25519_private: |
    -----BEGIN
    KEY
    -----END
  ed25519_public: ssh-ed25519 AAAA host
write_files:
  - path: /etc/motd
    content: |
      no
    permissions: '0600'
    owner: root:adm
packages:
  - a
  - b
runcmd:
  - - systemctl
    - start
    - x
`)
  })

  test.each([
    ['ssh-rsa AAAA', 'rsa'],
    ['ecdsa-sha2-nistp256 AAAA', 'ecdsa'],
    ['ssh-ed25519 AAAA', 'ed25519'],
  ])('the host key type of %s', (publicKey, type) => {
    const keys = cloudConfig().sshHostKey({ privateKey: 'x', publicKey }).build().ssh_keys
    expect(Object.keys(keys as object)).toEqual([`${type}_private`, `${type}_public`])
    const certified = cloudConfig().sshHostKey({ privateKey: 'x', publicKey, certificate: 'y' }).build()
    expect(certified.ssh_keys).toEqual({ ...(keys as object), [`${type}_certificate`]: 'y' })
    expect(() => cloudConfig().sshHostKey({ privateKey: 'x', publicKey: 'ssh-dss AAAA' })).toThrow(TypeError)
  })
})
