import { execa } from 'execa'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { ownFile } from './own.ts'
import { ended, startTarget, type Target } from './target.ts'
import { tinyArchive } from './tiny-archive.ts'

/** Clauses 8.7, 8.8, 19.6 and 19.7 of pve.md: which keys Proxmox takes, and when a create has ended. */

const KEY = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8g'
let target: Target
let node: string
let archive: string

beforeAll(async () => {
  target = await startTarget()
  node = `/nodes/${target.node}`
  if (target.linuxBridge !== undefined) {
    await execa('ip', ['link', 'add', 'name', target.linuxBridge, 'type', 'bridge'])
    await execa('ip', ['link', 'set', target.linuxBridge, 'up'])
  }
  const name = ownFile(target.own, 'creates_1_amd64.tar.zst')
  const reply = await target.client.upload(`${node}/storage/${target.files}/upload`, [
    ['content', 'vztmpl'],
    ['filename', { name, data: await tinyArchive() }],
  ])
  expect((await ended(target, reply)).exitstatus).toBe('OK')
  archive = `${target.files}:vztmpl/${name}`
})
afterAll(async () => {
  await target?.stop()
  if (target?.linuxBridge !== undefined) await execa('ip', ['link', 'delete', target.linuxBridge])
})

const container = (vmid: number) => ({
  ...{ vmid, ostemplate: archive, rootfs: `${target.files}:0.1`, ostype: 'unmanaged', memory: 64 },
})
const remove = async (path: string) =>
  expect((await ended(target, await target.client.delete(path))).exitstatus).toBe('OK')

/** What ssh-keygen makes nothing of: no base64, a key cut short, a comment beside a good one. */
const WRONG = ['ssh-ed25519 AAAA x', KEY.slice(0, -8), `# mine\n${KEY}`]
const refused = { status: 500, reason: 'SSH public key validation error' }

describe('keys', () => {
  test('8.7 of a virtual machine are checked by ssh-keygen, line by line', async () => {
    const vmid = await target.vmid()
    const create = (keys: string) =>
      target.client.post(`${node}/qemu`, { vmid, memory: 16, sshkeys: encodeURIComponent(keys) })
    for (const keys of WRONG) expect(await create(keys)).toMatchObject(refused)
    expect((await ended(target, await create(`${KEY} one\n\n${KEY} two\n`))).exitstatus).toBe('OK')
    const path = `${node}/qemu/${vmid}`
    const put = (keys: string) => target.client.put(`${path}/config`, { sshkeys: encodeURIComponent(keys) })
    for (const keys of WRONG) expect(await put(keys)).toMatchObject(refused)
    expect((await put(KEY)).status).toBe(200)
    await remove(path)
  })

  test('19.6 so are those of a container', async () => {
    const vmid = await target.vmid()
    const create = (keys: string) =>
      target.client.post(`${node}/lxc`, { ...container(vmid), 'ssh-public-keys': keys })
    for (const keys of WRONG) expect(await create(keys)).toMatchObject(refused)
    expect((await target.client.get(`${node}/lxc/${vmid}/config`)).status).toBe(500)
  })
})

describe('a create with start=1', () => {
  test.each(['qemu', 'lxc'] as const)(
    '8.8, 19.7 ends before the start, which has a task of its own (%s)',
    async (kind) => {
      const vmid = await target.vmid()
      const options = kind === 'lxc' ? container(vmid) : { vmid, memory: 16 }
      const create = await target.client.post(`${node}/${kind}`, { ...options, start: 1 })
      const upid = create.body.data as string
      expect(upid).toMatch(kind === 'lxc' ? /:vzcreate:/ : /:qmcreate:/)
      expect((await ended(target, upid)).exitstatus).toBe('OK')
      const starts = async () =>
        (
          await target.client.get(`${node}/tasks`, {
            ...{ vmid, source: 'all', typefilter: kind === 'lxc' ? 'vzstart' : 'qmstart' },
          })
        ).body.data as { upid: string; user: string }[]
      await expect.poll(async () => (await starts()).length, { timeout: 10_000 }).toBe(1)
      const [start] = await starts()
      expect((await ended(target, start?.upid as string)).exitstatus).toBe('OK')
      expect(start?.user).toBe(upid.split(':').at(-2))
      const path = `${node}/${kind}/${vmid}`
      expect((await target.client.get(`${path}/status/current`)).body.data).toMatchObject({
        status: 'running',
      })
      const stop = await target.client.post(`${path}/status/stop`)
      expect((await ended(target, stop)).exitstatus).toBe('OK')
      await remove(path)
    },
  )
})
