import { execFile } from 'node:child_process'
import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { promisify } from 'node:util'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { type Locked, readLockfile, writeLocked } from '../../src/cli/lockfile.ts'
import { lockCurrent } from '../../src/cli/locking.ts'
import type { Event } from '../../src/core/events.ts'
import { type Marks, type Note, renderNote, toTags } from '../../src/pve/marks.ts'
import { MemoryProxmox } from '../pve/memory-proxmox.ts'
import { cli } from './captured.ts'

const entry = (version: string, templates: Record<string, number> = { lab: 9000 }): Locked => ({
  version,
  digest: 'sha256:0123456789abcdef0123',
  kind: 'lxc',
  built: '2026-01-01T00:00:00.000Z',
  templates,
})

let root: string
let before: string
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'imagebuild-lockfile-'))
  before = process.cwd()
})
afterEach(async () => {
  process.chdir(before)
  await rm(root, { recursive: true })
})
const text = () => readFile(join(root, 'imagebuild.lock.json'), 'utf8')

describe('imagebuild.lock.json', () => {
  test('is in stable order, whoever wrote first', async () => {
    await writeLocked(root, { target: 'b', image: 'web', entry: async () => entry('2', { z: 1, a: 2 }) })
    await writeLocked(root, { target: 'a', image: 'web', entry: async () => entry('1') })
    await writeLocked(root, { target: 'a', image: 'db', entry: async () => entry('1') })
    const written = await text()
    expect(written).toMatchInlineSnapshot(`
      "{
        "schema": 1,
        "targets": {
          "a": {
            "db": {
              "version": "1",
              "digest": "sha256:0123456789abcdef0123",
              "kind": "lxc",
              "built": "2026-01-01T00:00:00.000Z",
              "templates": {
                "lab": 9000
              }
            },
            "web": {
              "version": "1",
              "digest": "sha256:0123456789abcdef0123",
              "kind": "lxc",
              "built": "2026-01-01T00:00:00.000Z",
              "templates": {
                "lab": 9000
              }
            }
          },
          "b": {
            "web": {
              "version": "2",
              "digest": "sha256:0123456789abcdef0123",
              "kind": "lxc",
              "built": "2026-01-01T00:00:00.000Z",
              "templates": {
                "a": 2,
                "z": 1
              }
            }
          }
        }
      }
      "
    `)
    const { ino } = await stat(join(root, 'imagebuild.lock.json'))
    await writeLocked(root, { target: 'a', image: 'db', entry: async () => entry('1') })
    expect((await stat(join(root, 'imagebuild.lock.json'))).ino).toBe(ino)
    expect((await readdir(root)).sort()).toEqual(['.imagebuild', 'imagebuild.lock.json'])
  })

  test('loses nothing when several processes write at once', async () => {
    const program = `
      import { writeLocked } from ${JSON.stringify(join(import.meta.dirname, '../../src/cli/lockfile.ts'))}
      const [root, name] = process.argv.slice(-2)
      for (let n = 1; n <= 5; n += 1)
        await writeLocked(root, { target: 'lab', image: name + n, entry: async () => (${JSON.stringify(entry('1'))}) })`
    const script = join(root, 'write.mjs')
    await writeFile(script, program)
    await Promise.all(
      ['a', 'b', 'c'].map((name) => promisify(execFile)(process.execPath, [script, root, name])),
    )
    expect(Object.keys((await readLockfile(root)).targets.lab ?? {})).toHaveLength(15)
  })

  test('keeps the newest dates of indexes, only beside an entry that changes', async () => {
    const write = (version: string, suites: Record<string, string>) =>
      writeLocked(root, { target: 'a', image: 'web', entry: async () => entry(version), suites })
    const [early, late] = ['2026-11-30T08:00:00.000Z', '2026-11-30T20:00:00.000Z']
    const seen = async () => (await readLockfile(root)).suites
    await write('1', { 'http://x/debian trixie': late, 'http://x/debian sid': early })
    expect(Object.keys((await seen()) ?? {})).toEqual(['http://x/debian sid', 'http://x/debian trixie'])
    await write('1', { 'http://x/debian sid': late })
    expect(await seen()).toEqual({ 'http://x/debian sid': early, 'http://x/debian trixie': late })
    await write('2', { 'http://x/debian trixie': early, 'http://y z': early })
    expect(await seen()).toEqual({
      ...{ 'http://x/debian sid': early, 'http://x/debian trixie': late, 'http://y z': early },
    })
    // Who writes an image and has seen none loses none.
    await writeLocked(root, { target: 'a', image: 'db', entry: async () => entry('1') })
    expect(Object.keys((await seen()) ?? {})).toHaveLength(3)
  })

  test('with the marks of a merge, or of somebody else, is refused and told', async () => {
    for (const wrong of [
      '<<<<<<< HEAD\n{}',
      '{"schema":2,"targets":{}}',
      '{"schema":1,"targets":{},"suites":{"x y":"soon"}}',
      '{"schema":1}',
    ]) {
      await writeFile(join(root, 'imagebuild.lock.json'), wrong)
      await expect(readLockfile(root)).rejects.toMatchObject({ code: 'definition_invalid' })
    }
    const events: Event[] = []
    const { signal } = new AbortController()
    const to = { pve: new MemoryProxmox().client(), target: 'lab', root, signal }
    const current = [{ node: 'pve', vmid: 9000, version: '1', digest: 'sha256:ab' }]
    await lockCurrent({ ...to, emit: (event) => events.push(event) }, { name: 'web', kind: 'vm' }, current)
    expect(events).toMatchObject([{ type: 'warning', image: 'web' }])
    expect(await text()).toBe('{"schema":1}')
  })

  test('asks the cluster only where it says something else', async () => {
    const pve = new MemoryProxmox()
    const note = {
      schema: 1,
      vmid: 9000,
      namespace: 'n',
      image: 'web',
      kind: 'vm',
      tool: '',
      run: '',
    } as const
    const facts = { digest: 'sha256:0123456789abcdef0123', built: '2026-01-01T00:00:00.000Z' }
    const marks = { vmid: 9000, namespace: 'n', image: 'web', state: 'current' } as const
    const put = (version: string, change: Partial<Marks> = {}, archive?: Note['archive']) =>
      pve.put(9000, {
        tags: toTags({ ...marks, version, ...change }),
        description: renderNote({ ...note, ...facts, ...(archive && { archive }) }),
      })
    let asked = 0
    pve.before = () => void asked++
    const { signal } = new AbortController()
    const to = { pve: pve.client(), target: 'lab', root, emit: () => {}, signal }
    const record = (version: string, digest: string) =>
      lockCurrent(to, { name: 'web', kind: 'vm' }, [{ node: 'pve', vmid: 9000, version, digest }])
    const written = async () => (await readLockfile(root)).targets.lab?.web
    put('1')
    await record('1', facts.digest)
    // As tags have it.
    await record('1', '0123456789abcdef')
    expect(asked).toBe(1)
    expect(await written()).toEqual({ version: '1', ...facts, kind: 'vm', templates: { pve: 9000 } })
    const archive = { volid: 'local:vztmpl/web.tar.zst', file: 'web.tar.zst' }
    put('2', {}, archive)
    await record('2', facts.digest)
    expect(asked).toBe(2)
    expect(await written()).toMatchObject({ version: '2', archive: archive.volid })
    put('2.1', { shared: true })
    await record('2.1', facts.digest)
    expect(await written()).toMatchObject({ version: '2.1', shared: true })
    // A run that is late: somebody has rolled back, and written that down, since it promoted this one.
    put('3', { state: 'previous' })
    await record('3', facts.digest)
    // At a fixed VMID another version is current by then.
    put('2', { held: true })
    await record('3', facts.digest)
    expect(asked).toBe(5)
    expect((await written())?.version).toBe('2.1')
  })
})

describe('--locked, with no cluster at hand', () => {
  beforeEach(async () => {
    const target = (node: string) =>
      `{ kind: pve, endpoint: https://192.0.2.1:8006, ${node}, storages: { disks: d, images: i } }`
    await writeFile(
      join(root, 'imagebuild.yaml'),
      `namespace: n\ntarget: one\ntargets:\n  one: ${target('node: lab')}\n  two: ${target('nodes: [b, a]')}\n`,
    )
    process.chdir(root)
    await writeLocked(root, { target: 'one', image: 'web', entry: async () => entry('20260101.1') })
    await writeLocked(root, {
      target: 'two',
      image: 'web',
      entry: async () => entry('20260101.1', { a: 9001, b: 9002 }),
    })
  })

  test.each([
    [['web'], '9000\n'],
    [['web@current'], '9000\n'],
    [['web@20260101.1'], '9000\n'],
    [['web', '--node', 'lab'], '9000\n'],
    [['web', '--target', 'two'], '9002\n'],
    [['web', '--target', 'two', '--node', 'a'], '9001\n'],
  ])('resolve %j', async (args, stdout) => {
    expect(await cli('resolve', '--locked', ...args)).toEqual({ code: 0, stdout, stderr: '' })
  })

  test.each([['web@previous'], ['web@20250101.1'], ['db'], ['web --node c']])(
    'resolve %s: nothing, and why',
    async (args) => {
      const { code, stdout, stderr } = await cli('resolve', '--locked', ...args.split(' '))
      expect([code, stdout]).toEqual([1, ''])
      expect(stderr).toContain('imagebuild.lock.json has no')
    },
  )

  test('a template on a shared storage serves all nodes of its target, and no others', async () => {
    const shared = { ...entry('20260102.1', { a: 9001 }), shared: true } as const
    await writeLocked(root, { target: 'two', image: 'web', entry: async () => shared })
    const resolved = async (...args: string[]) =>
      (await cli('resolve', '--locked', 'web', '--target', 'two', ...args)).stdout
    expect(await resolved()).toBe('9001\n')
    expect(await resolved('--node', 'a')).toBe('9001\n')
    expect(await resolved('--node', 'b')).toBe('9001\n')
    expect(await resolved('--node', 'c')).toBe('')
    const { stdout } = await cli('outputs', '--locked', '--target', 'two')
    expect(JSON.parse(stdout).web).toMatchObject({ node: 'a', vmid: 9001, templates: { a: 9001, b: 9001 } })
  })

  test('resolve --terraform-external', async () => {
    using _ = { [Symbol.dispose]: () => vi.restoreAllMocks() }
    const answer = async (query: object) => {
      vi.spyOn(process, 'stdin', 'get').mockReturnValue(
        Readable.from([JSON.stringify(query)]) as typeof process.stdin,
      )
      return await cli('resolve', '--locked', '--terraform-external')
    }
    const { stdout } = await answer({ image: 'web', target: 'two' })
    expect(JSON.parse(stdout)).toEqual({
      ...{ vmid: '9002', node: 'b', name: 'web-20260101.1', kind: 'lxc', version: '20260101.1' },
      digest: entry('20260101.1').digest,
    })
    expect(await answer({ image: 'web', selector: 'previous' })).toMatchObject({ code: 1, stdout: '' })
  })

  test('outputs', async () => {
    const { stdout } = await cli('outputs', '--locked', '--target', 'two')
    expect(JSON.parse(stdout)).toEqual({
      web: { ...entry('20260101.1', { a: 9001, b: 9002 }), node: 'b', vmid: 9002 },
    })
  })
})
