import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { Datacenter } from '../../../src/lab/api/datacenter.ts'

let dir: string
let file: string
let datacenter: Datacenter
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'imagebuild-datacenter-'))
  file = join(dir, 'datacenter.cfg')
  datacenter = new Datacenter(file)
})
afterEach(() => rm(dir, { recursive: true, force: true }))

test('without a file all tags are free', async () => {
  expect(await datacenter.tags()).toEqual({ allow: 'free', list: [], registered: [] })
  expect(await datacenter.shown()).toEqual({})
})

test('a file that somebody edits counts from then on', async () => {
  await writeFile(file, 'user-tag-access: user-allow=list,user-allow-list=a;b\nregistered-tags: c;d\n')
  expect(await datacenter.tags()).toEqual({ allow: 'list', list: ['a', 'b'], registered: ['c', 'd'] })
  await writeFile(file, 'user-tag-access: user-allow=none\n')
  expect(await datacenter.tags()).toEqual({ allow: 'none', list: [], registered: [] })
})

test('lines that make no sense are passed over, as in Proxmox', async () => {
  await writeFile(file, '#note\nuser-tag-access: user-allow=some\nregistered-tags: a;;b\nkeyboard: de\n')
  expect(await datacenter.tags()).toEqual({ allow: 'free', list: [], registered: [] })
})

test('a change keeps lines that are not about it: notes, and what the lab has no use for', async () => {
  await writeFile(file, '# ours: see the wiki\nkeyboard: de\nregistered-tags: a\n\nmac_prefix: 02:00\n')
  await datacenter.change({ 'registered-tags': 'b', 'tag-style': 'ordering=config' }, ['user-tag-access'])
  expect(await readFile(file, 'utf8')).toBe(
    '# ours: see the wiki\nkeyboard: de\n\nmac_prefix: 02:00\nregistered-tags: b\ntag-style: ordering=config\n',
  )
  expect(await datacenter.tags()).toMatchObject({ registered: ['b'] })
})

test('a file that cannot be read is not taken for an empty one', async () => {
  await mkdir(file)
  await expect(datacenter.tags()).rejects.toThrow('EISDIR')
  await expect(datacenter.change({ 'registered-tags': 'a' }, [])).rejects.toThrow('EISDIR')
})

test('a change keeps what it does not name', async () => {
  await datacenter.change({ 'registered-tags': 'a', 'tag-style': 'ordering=config' }, [])
  await datacenter.change({ 'user-tag-access': 'user-allow=existing,user-allow-list=b' }, ['registered-tags'])
  expect(await readFile(file, 'utf8')).toBe(
    'tag-style: ordering=config\nuser-tag-access: user-allow=existing,user-allow-list=b\n',
  )
  expect(await datacenter.shown()).toEqual({
    'tag-style': { ordering: 'config' },
    'user-tag-access': { 'user-allow': 'existing', 'user-allow-list': ['b'] },
  })
})
