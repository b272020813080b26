import { describe, expect, test } from 'vitest'
import { allFixedVmids, readFixedVmid } from '../../src/definition/fixed-vmids.ts'
import { CONFIG, mistakesOf, projectOnDisk } from './project-on-disk.ts'

const image = (name: string, template: string) =>
  `name: ${name}\nsource: { release: debian/12 }\ntemplate: { ${template} }\n`

describe('template.keep and template.vmid', () => {
  test('are three versions and a VMID of the range, where nothing is said', async () => {
    await using project = await projectOnDisk({ 'images/a/image.yaml': image('a', 'tags: [x]') })
    const { images, fixedVmids } = await project.load()
    expect(images.get('a')?.template).toEqual({ tags: ['x'], keep: 3 })
    expect(fixedVmids).toEqual([])
  })

  test('are read, one for all nodes or one for each', async () => {
    await using project = await projectOnDisk({
      'images/a/image.yaml': image('a', 'keep: 1, vmid: 9000'),
      'images/b/image.yaml': image('b', 'keep: 20, vmid: { pve1: 8001, pve2: 8000 }'),
    })
    const { images, fixedVmids } = await project.load()
    expect(images.get('a')?.template).toMatchObject({ keep: 1, vmid: 9000 })
    expect(images.get('b')?.template).toMatchObject({ keep: 20, vmid: { pve1: 8001, pve2: 8000 } })
    expect(fixedVmids).toEqual([8000, 8001, 9000])
  })

  test('fixed VMIDs are known of images that are not loaded, whatever else is wrong with them', async () => {
    await using project = await projectOnDisk({
      'images/a/image.yaml': image('a', 'keep: 2'),
      'images/b/image.yaml': 'name: [\n',
      'images/c/image.yaml': image('c', 'vmid: 8000, nonsense: true'),
      'images/d/image.yaml': image('d', 'vmid: none'),
    })
    expect((await project.load({ images: ['a'] })).fixedVmids).toEqual([8000])
  })

  test('are known without loading anything', async () => {
    await using project = await projectOnDisk({
      'images/a/image.yaml': image('a', 'keep: 2'),
      'images/b/image.yaml': image('b', 'vmid: { pve1: 8001, pve2: 8000 }, nonsense: true'),
      'images/c/image.yaml': image('c', 'vmid: 9000'),
      'images/README.md': 'vmid',
    })
    const { root } = project
    expect(allFixedVmids(root)).toEqual([8000, 8001, 9000])
    expect(readFixedVmid(root, 'a')).toBeUndefined()
    expect(readFixedVmid(root, 'b')).toEqual({ pve1: 8001, pve2: 8000 })
    expect(readFixedVmid(root, 'c')).toBe(9000)
    expect(readFixedVmid(root, 'gone')).toBeUndefined()
  })

  test.each([
    ['keep: 0', /^3:19 `keep` must be at least 1/],
    ['keep: 1.5', /^3:19 `keep` needs a whole number/],
    ['vmid: 99', /^3:19 `vmid` must be at least 100/],
    ['vmid: { pve: 99 }', /^3:26 `pve` must be at least 100/],
    ['vmid: { "-a": 900 }', /^3:21 the name `-a` must be the name of a node/],
    ['vmid: 9950', '3:19 VMID 9950 lies among the claims (9900-9999) of target `lab` (choose one outside)'],
    [
      'vmid: { a: 800, b: 800 }',
      '3:32 VMID 800 stands here twice (a VMID is one guest’s in the whole cluster: choose another)',
    ],
  ])('%s', async (template, expected) => {
    const [mistake, ...more] = await mistakesOf(image('a', template))
    expect(more).toEqual([])
    expect(mistake).toEqual(typeof expected === 'string' ? expected : expect.stringMatching(expected))
  })

  test('one VMID cannot be fixed for two images; for each target its claims count', async () => {
    await using project = await projectOnDisk({
      'imagebuild.yaml': `${CONFIG}  other: { kind: lab, vmids: { claims: 700-799 } }\n`,
      'images/a/image.yaml': image('a', 'vmid: { pve1: 9000, pve2: 8000 }'),
      'images/b/image.yaml': image('b', 'vmid: 8000'),
      'images/c/image.yaml': image('c', 'vmid: 750'),
    })
    expect(await project.mistakes()).toEqual([
      'images/b/image.yaml:3:19 VMID 8000 is fixed for the image `a` already (a VMID is one guest’s in the whole cluster: choose another)',
      'images/c/image.yaml:3:19 VMID 750 lies among the claims (700-799) of target `other` (choose one outside)',
    ])
  })
})
