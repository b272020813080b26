import { describe, expect, test } from 'vitest'
import { projectOnDisk } from './project-on-disk.ts'

const image = (fragments: string) => `name: a\nsource: { release: debian/12 }\ncloudInit: [${fragments}]\n`

describe('cloud-config fragments', () => {
  test('are read as cloud-init reads them, in the order of the definition', async () => {
    await using project = await projectOnDisk({
      'images/a/image.yaml': image('two, one'),
      'cloud-init/one.yaml': '#cloud-config\nmode: 0644\nssh_pwauth: no\nx: { <<: { y: y, z: 1e3 } }\n',
      'cloud-init/two.yaml': 'timezone: Etc/UTC\nuri: file:///srv\n',
    })
    expect((await project.load()).images.get('a')?.cloudInit).toEqual([
      {
        name: 'two',
        config: { timezone: 'Etc/UTC', uri: 'file:///srv' },
        where: { file: `${project.root}/cloud-init/two.yaml`, line: 1, column: 1 },
      },
      {
        name: 'one',
        config: { mode: 0o644, ssh_pwauth: false, x: { y: 'y', z: '1e3' } },
        where: { file: `${project.root}/cloud-init/one.yaml`, line: 2, column: 1 },
      },
    ])
  })
  test('an unknown one, and one named twice', async () => {
    await using project = await projectOnDisk({
      'images/a/image.yaml': image('bse, base, base'),
      'cloud-init/base.yaml': 'a: 1\n',
    })
    expect(await project.mistakes()).toEqual([
      'images/a/image.yaml:3:13 there is no fragment cloud-init/bse.yaml (did you mean `base`?)',
      'images/a/image.yaml:3:24 the fragment `base` is here twice',
    ])
  })
  const toLayer = 'give it to a shell layer of the image instead, in `env`'
  const secret = `a secret cannot go through cloud-init: its seed can be read by everyone on the storage and in the guest (${toLayer})`
  test.each([
    ['a:\n  - b: env:TOKEN\n', `2:8 ${secret}`],
    ['a: file:/root/key\n', `1:4 ${secret}`],
    ['a: cmd:pass show x\n', `1:4 ${secret}`],
    ['- a\n', '1:3 a fragment must be a map of cloud-config modules'],
    ['text\n', '1:1 a fragment must be a map of cloud-config modules'],
    ['a: 1\na: 2\n', '2:1 this key is here twice (leave one of them)'],
    ['a: [\n', /^[12]:\d+ this is not YAML: /],
    ['', '1:1 the file is empty'],
    [
      'mac: 52:54:00:12:34:56\n',
      "1:6 cloud-init reads this as the number 41135085296 (put it in quotes: '52:54:00:12:34:56')",
    ],
    [
      'day: 2026-01-01\n',
      '1:6 cloud-init would not read this as text (put it in quotes; for binary content use `encoding: b64`)',
    ],
    ['a: {{ b }}\n', '1:5 this is not YAML: a key must be text (put the key in quotes)'],
    [
      '## template: jinja\n#cloud-config\na: 1\n',
      '1:1 a fragment cannot be a Jinja template: it is merged with others',
    ],
    ['#include\na: 1\n', '1:1 only #cloud-config can be merged (put scripts into a shell layer)'],
  ])('%j', async (text, expected) => {
    // No image names it: looking at everything finds it all the same.
    await using project = await projectOnDisk({ 'cloud-init/one.yaml': text })
    const [mistake = ''] = await project.mistakes()
    const told = mistake.replace('cloud-init/one.yaml:', '')
    expect(told).toEqual(typeof expected === 'string' ? expected : expect.stringMatching(expected))
  })
  test('a mistake in a fragment that two images share is told once', async () => {
    await using project = await projectOnDisk({
      'images/a/image.yaml': image('one'),
      'images/b/image.yaml': image('one').replace('name: a', 'name: b'),
      'cloud-init/one.yaml': 'a: env:X\n',
    })
    expect(await project.mistakes()).toHaveLength(1)
  })
})
