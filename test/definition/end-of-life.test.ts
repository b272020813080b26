import { expect, test } from 'vitest'
import { inOneLine, projectOnDisk } from './project-on-disk.ts'

/** Which name of a source the loader asks about, and where the warning stands. */

const ends = (name: string) => ({ message: `${name} ends`, hint: `when ${name} ends` })

test.each([
  ['source: { release: debian/12 }', '2:20 debian/12 ends (when debian/12 ends)'],
  [
    'kind: lxc\nsource: { release: ubuntu/24.04, fallback: bootstrap }',
    '3:20 ubuntu/24.04 ends (when ubuntu/24.04 ends)',
  ],
  [
    'source: { bootstrap: { distribution: debian, suite: bookworm } }',
    '2:53 bookworm ends (when bookworm ends)',
  ],
  [
    'kind: lxc\nsource: { appliance: debian-12-standard }',
    '3:22 debian-12-standard ends (when debian-12-standard ends)',
  ],
])('%j', async (image, warning) => {
  await using project = await projectOnDisk({ 'images/a/image.yaml': `name: a\n${image}\n` })
  const { warnings, images } = await project.load({ endOfLife: ends })
  expect(warnings.map((found) => inOneLine(found, project.root))).toEqual([`images/a/image.yaml:${warning}`])
  expect(warnings[0]?.severity).toBe('warning')
  expect(images.has('a')).toBe(true)
})

test('of an image that starts from another it is said once, at the other', async () => {
  await using project = await projectOnDisk({
    'images/a/image.yaml': 'name: a\nsource: { release: debian/12 }\n',
    'images/b/image.yaml': 'name: b\nsource: { image: a }\n',
  })
  const { warnings } = await project.load({ endOfLife: ends, images: ['b'] })
  expect(warnings.map((found) => inOneLine(found, project.root))).toEqual([
    'images/a/image.yaml:2:20 debian/12 ends (when debian/12 ends)',
  ])
})

test('a source that is no release of a distribution is not asked about', async () => {
  await using project = await projectOnDisk({
    'images/a/image.yaml': `name: a\nsource: { url: 'https://debian.example/debian-12.qcow2', checksum: 'sha256:${'0'.repeat(64)}' }\n`,
  })
  expect((await project.load({ endOfLife: ends })).warnings).toEqual([])
})
