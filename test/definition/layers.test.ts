import { describe, expect, test } from 'vitest'
import type { Layer } from '../../src/definition/spec.ts'
import { inOneLine, mistakesOf, projectOnDisk } from './project-on-disk.ts'

const HEAD = 'name: a\nsource: { release: debian/12 }\nprovision:\n'

async function layersOf(provision: string, files: Record<string, string> = {}): Promise<Layer[]> {
  await using project = await projectOnDisk({ 'images/a/image.yaml': HEAD + provision, ...files })
  return (await project.load()).images.get('a')?.layers ?? []
}

const textOf = (bytes: Uint8Array) => Buffer.from(bytes).toString()

describe('layers', () => {
  test('packages, short and long', async () => {
    const [short, long, many] = await layersOf(`
  - packages: [curl, vim]
  - { packages: { upgrade: true, install: [a1=1.2], remove: [nano] }, timeout: 5m, name: mine }
  - packages: [p1, p2, p3, p4, p5]
`)
    expect(short).toMatchObject({
      kind: 'packages',
      name: 'packages: curl, vim',
      install: ['curl', 'vim'],
      remove: [],
      upgrade: false,
      timeoutSeconds: 1800,
      where: { line: 5, column: 5 },
    })
    expect(long).toMatchObject({
      name: 'mine',
      install: ['a1=1.2'],
      remove: ['nano'],
      upgrade: true,
      timeoutSeconds: 300,
    })
    expect(many?.name).toBe('packages: p1, p2, p3 and 2 more')
  })
  test('files, from the text and from beside it, with their very bytes', async () => {
    const [inline, named] = await layersOf(
      "  - file: { path: /etc/a, content: 'hé' }\n  - file: { path: /etc/b, source: sub/b, mode: '0600', owner: 'www:www' }\n",
      { 'images/a/sub/b': 'bytes\n' },
    )
    expect(inline).toMatchObject({
      kind: 'file',
      name: 'file: /etc/a',
      mode: '0644',
      owner: 'root:root',
      timeoutSeconds: 300,
    })
    expect(inline?.kind === 'file' && textOf(inline.content)).toBe('hé')
    expect(named).toMatchObject({
      mode: '0600',
      owner: 'www:www',
      source: expect.stringMatching(/images\/a\/sub\/b$/),
    })
    expect(named?.kind === 'file' && textOf(named.content)).toBe('bytes\n')
  })
  test('shell, short, inline and from a script; reboot', async () => {
    const [short, inline, script, reboot] = await layersOf(
      "  - shell: apt-get clean\n  - shell: { inline: '# note\n\n      true', user: me }\n  - shell: { script: s.sh }\n  - reboot: true\n",
      { 'images/a/s.sh': '#!/bin/sh\ntrue\n' },
    )
    expect(short).toMatchObject({
      kind: 'shell',
      name: 'shell: apt-get clean',
      user: 'root',
      env: {},
      secrets: {},
    })
    expect(short?.kind === 'shell' && textOf(short.script)).toBe('apt-get clean\n')
    expect(inline).toMatchObject({ name: 'shell: true', user: 'me' })
    expect(script).toMatchObject({ name: 'shell: s.sh', source: expect.stringMatching(/images\/a\/s.sh$/) })
    expect(script?.kind === 'shell' && textOf(script.script)).toBe('#!/bin/sh\ntrue\n')
    expect(reboot).toMatchObject({ kind: 'reboot', name: 'reboot', timeoutSeconds: 600 })
  })
  test('the environment as it was typed, secrets apart', async () => {
    const [layer] = await layersOf(
      "  - { shell: 'true', env: { V: 1.10, M: 0644, B: true, S: plain, T: 'env:TOKEN', F: 'file:/run/key', C: 'cmd:pass x' } }\n",
    )
    expect(layer).toMatchObject({
      env: { V: '1.10', M: '0644', B: 'true', S: 'plain' },
      secrets: { T: 'env:TOKEN', F: 'file:/run/key', C: 'cmd:pass x' },
    })
  })
  test('a literal that looks like a secret is a warning, which does not show it', async () => {
    await using project = await projectOnDisk({
      'images/a/image.yaml': `${HEAD}  - shell: 'true'\n    env:\n      API_TOKEN: abc123\n      DB_PASSWORD: 'env:X'\n`,
    })
    const [warning, ...more] = (await project.load()).warnings
    expect(more).toEqual([])
    expect(warning && inOneLine(warning, project.root)).toBe(
      'images/a/image.yaml:6:18 `API_TOKEN` looks like a secret, and stands here for all to read (write a reference: env:NAME, file:/path or cmd:command)',
    )
    expect(warning?.frame).not.toContain('abc123')
  })
  test.each([
    ['packages: {}', '4:5 `packages` does nothing: it needs install, remove or upgrade'],
    ['packages: { install: [a1=2], remove: [a1] }', '4:43 `a1` is installed and removed by the same layer'],
    ['file: { path: /etc/../x, content: a }', '4:19 `path` must not contain `..`'],
    [
      'file: { path: /etc/, content: a }',
      '4:19 `path` must be an absolute path of a file in the guest, not `/etc/`',
    ],
  ])('%s', async (layer, expected) => {
    expect(await mistakesOf(`${HEAD}  - ${layer}\n`)).toEqual([expected])
  })
})
