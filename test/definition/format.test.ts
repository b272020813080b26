import { readFile } from 'node:fs/promises'
import { describe, expect, test } from 'vitest'
import { parse } from 'yaml'
import { InvalidDefinition } from '../../src/definition/diagnostics.ts'
import { formatDocument } from '../../src/definition/format.ts'

const UNTIDY = `# yaml-language-server: $schema=x
# about provision
provision:   # tail
    - timeout: 5m
      # the env
      env: {B: 0644, V: 1.10, A: "x"}

      # the shell
      shell: |
        a
          b
    # second
    - packages: [ a,b ]   # why

# the name
name:   "x"

hardware:
    memory: 2048 # enough
    cores: 2
source: {fallback: bootstrap, release: "it's"}
# end
`

const TIDY = `# yaml-language-server: $schema=x

# the name
name: 'x'
source: { release: "it's", fallback: bootstrap }

hardware:
  cores: 2
  memory: 2048   # enough

# about provision
provision:   # tail
  # the shell
  - shell: |
      a
        b
    # the env
    env: { B: 0644, V: 1.10, A: 'x' }
    timeout: 5m
  # second
  - packages: [a, b]      # why

# end
`

describe('formatDocument', () => {
  test('puts keys in the order of the schema and keeps comments, blank lines and spellings', () => {
    expect(formatDocument(UNTIDY)).toBe(TIDY)
  })
  test.each([
    ['image', UNTIDY],
    ['image', '# a\n\n# b\nsource:\n  # c\n  image: x\n\n  # d\n  url: y\n# e\nname: z\n'],
    [
      'image',
      'provision:\n  # one\n  - file:\n      # two\n      source: x\n      # three\n      path: "/a\\n"\n',
    ],
    ['image', 'name: x'],
    [
      'config',
      'targets:\n  b:\n    # c\n    node: n\n\n    # k\n    kind: pve\n\n  a: {pool: x, kind: lab}\nnamespace: h\n',
    ],
    ['fragment', '#cloud-config\n# a\nb: yes\nmode: 0644\nz: [ 1_000, ~ ]\na:  {x: 0x1F, t: 1:20}\n'],
  ] as const)('does nothing more the second time, and changes no meaning (%s %#)', (kind, text) => {
    const once = formatDocument(text, kind)
    expect(formatDocument(once, kind)).toBe(once)
    expect(parse(once, { version: '1.2' })).toEqual(parse(text, { version: '1.2' }))
    expect(once.match(/# ?\w+/g)?.toSorted()).toEqual(text.match(/# ?\w+/g)?.toSorted())
  })
  test('the keys of targets are sorted, the targets are not', () => {
    expect(
      formatDocument(
        'targets:\n  b: {pool: x, kind: lab}\n  a: {node: n, kind: pve}\nnamespace: h\n',
        'config',
      ),
    ).toBe('namespace: h\ntargets:\n  b: { kind: lab, pool: x }\n  a: { kind: pve, node: n }\n')
  })
  test('cloud-config keeps its order', () => {
    expect(formatDocument('#cloud-config\nb:   1\na: "2"\n', 'fragment')).toBe(
      "#cloud-config\nb: 1\na: '2'\n",
    )
  })
  test('what is not YAML is refused', () => {
    expect(() => formatDocument('a: [')).toThrow(InvalidDefinition)
  })
  test.each([
    ['images/debian-base/image.yaml', 'image'],
    ['imagebuild.yaml', 'config'],
    ['cloud-init/base.yaml', 'fragment'],
  ] as const)('%s is in this form', async (file, kind) => {
    const text = await readFile(new URL(`../../${file}`, import.meta.url), 'utf8')
    expect(formatDocument(text, kind)).toBe(text)
  })
})
