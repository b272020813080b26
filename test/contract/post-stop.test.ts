import { execa } from 'execa'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Fields } from './client.ts'
import { gate } from './gate.ts'
import { ownFile } from './own.ts'
import { ended, LAB_FAULTS, startTarget, type Target } from './target.ts'
import { BRIEF_INIT, tinyArchive } from './tiny-archive.ts'

/** Clauses 24.3 and 24.4 of pve.md: what happens to a container that has just stopped. Its hook waits at the gate. */

const hook = gate()
let target: Target
let lxc: string

beforeAll(async () => {
  const passingErrors = { seed: 1, goingDown: 1, lists: 0, connections: 0 }
  target = await startTarget({ faults: { postStopSeconds: 1, passingErrors }, pause: hook.pause })
  lxc = `/nodes/${target.node}/lxc`
  if (target.linuxBridge !== undefined) {
    await execa('ip', ['link', 'add', 'name', target.linuxBridge, 'type', 'bridge'])
    await execa('ip', ['link', 'set', target.linuxBridge, 'up'])
  }
  for (const [name, init] of Object.entries({ brief: BRIEF_INIT, steady: undefined })) {
    const reply = await target.client.upload(`/nodes/${target.node}/storage/${target.files}/upload`, [
      ['content', 'vztmpl'],
      [
        'filename',
        {
          name: ownFile(target.own, `${name}_1_amd64.tar.zst`),
          data: await tinyArchive({ ...(init !== undefined && { init }) }),
        },
      ],
    ])
    expect((await ended(target, reply)).exitstatus).toBe('OK')
  }
})
afterAll(async () => {
  hook.open()
  await target?.stop()
  if (target?.linuxBridge !== undefined) await execa('ip', ['link', 'delete', target.linuxBridge])
})

const PATIENT = { timeout: 30_000 }

type Config = Record<string, string | number>

async function started(name: 'brief' | 'steady', more: Fields = {}): Promise<number> {
  const vmid = await target.vmid()
  const create = await target.client.post(lxc, {
    ...{ vmid, ostemplate: `${target.files}:vztmpl/${ownFile(target.own, `${name}_1_amd64.tar.zst`)}` },
    rootfs: `${target.files}:0.1`,
    ...{ ostype: 'unmanaged', memory: 64, ...more },
  })
  expect(await ended(target, create)).toMatchObject({ exitstatus: 'OK' })
  hook.close()
  const start = await target.client.post(`${lxc}/${vmid}/status/start`)
  expect(await ended(target, start)).toMatchObject({ exitstatus: 'OK' })
  return vmid
}

const config = async (vmid: number): Promise<Config> =>
  (await target.client.get(`${lxc}/${vmid}/config`)).body.data
const put = async (vmid: number, fields: Fields) =>
  expect((await target.client.put(`${lxc}/${vmid}/config`, fields)).body).toEqual({ data: null })

/** Whoever asks next is told that the socket broke; whoever asks then, that it is stopped. */
async function isStopped(vmid: number): Promise<void> {
  const asked: string[] = []
  const ask = async () => {
    const { body } = await target.client.get(`${lxc}/${vmid}/status/current`)
    const { status } = (body.data ?? {}) as { status?: string }
    asked.push(status ?? body.message ?? '')
    return status
  }
  await expect.poll(ask, PATIENT).toBe('stopped')
  const broken = 'failed to read from command socket: Connection reset by peer\n'
  expect(asked.filter((answer) => answer !== 'running')).toEqual([broken, 'stopped'])
}

async function remove(vmid: number): Promise<void> {
  const reply = await target.client.delete(`${lxc}/${vmid}`)
  expect((await ended(target, reply)).exitstatus).toBe('OK')
}

describe('the hook of a container that has stopped by itself', () => {
  test('24.3 writes back what was there at the stop: what was changed meanwhile is lost', async ({
    skip,
  }) => {
    if (!target.lab) return skip(LAB_FAULTS)
    const vmid = await started('brief', { tags: 'old', description: 'old' })
    await isStopped(vmid)
    await put(vmid, { tags: 'new', description: 'new' })
    expect(await config(vmid)).toMatchObject({ tags: 'new', description: 'new\n' })
    hook.open()
    await expect.poll(() => config(vmid), PATIENT).toMatchObject({ tags: 'old', description: 'old\n' })
    // Once: from now on changes stay.
    await put(vmid, { tags: 'new' })
    expect((await config(vmid)).tags).toBe('new')
    await remove(vmid)
  })

  test('24.3 a template that was made meanwhile is none any more, and its volume is nobody’s', async ({
    skip,
  }) => {
    if (!target.lab) return skip(LAB_FAULTS)
    const vmid = await started('brief')
    await isStopped(vmid)
    const before = await config(vmid)
    expect((await target.client.post(`${lxc}/${vmid}/template`)).body).toEqual({ data: null })
    await expect.poll(async () => (await config(vmid)).template, PATIENT).toBe(1)
    expect((await config(vmid)).rootfs).toContain(`base-${vmid}-disk-0`)
    hook.open()
    await expect.poll(async () => (await config(vmid)).rootfs, PATIENT).toBe(before.rootfs)
    expect(await config(vmid)).not.toHaveProperty('template')
    const content = `/nodes/${target.node}/storage/${target.files}/content`
    const volumes = (await target.client.get(content, { vmid, content: 'rootdir' })).body.data as {
      volid: string
    }[]
    expect(volumes.map(({ volid }) => volid)).toEqual([expect.stringContaining(`base-${vmid}-disk-0`)])
    await remove(vmid)
    expect((await target.client.get(content, { vmid, content: 'images' })).body.data).toEqual([
      expect.objectContaining({ volid: volumes[0]?.volid }),
    ])
  })

  test('24.3 brings a container back that was removed meanwhile', async ({ skip }) => {
    if (!target.lab) return skip(LAB_FAULTS)
    const vmid = await started('brief', { tags: 'old' })
    await isStopped(vmid)
    await remove(vmid)
    expect((await target.client.get(`${lxc}/${vmid}/config`)).status).toBe(500)
    hook.open()
    await expect.poll(() => config(vmid), PATIENT).toMatchObject({ tags: 'old' })
    // Its volume is gone, which keeps nobody from removing it again.
    await remove(vmid)
    expect((await target.client.get(`${lxc}/${vmid}/config`)).status).toBe(500)
  })
})

describe('the task that stops a container', () => {
  test.each(['stop', 'shutdown'])('24.3 %s ends when the hook has written', async (how) => {
    const vmid = await started('steady', { tags: 'old' })
    await put(vmid, { tty: 3 })
    const waits = (await target.client.get(`${lxc}/${vmid}/pending`)).body.data as Config[]
    expect(waits).toContainEqual({ key: 'tty', pending: 3 })
    const reply = await target.client.post(`${lxc}/${vmid}/status/${how}`)
    if (target.lab) {
      await isStopped(vmid)
      const task = `/nodes/${target.node}/tasks/${encodeURIComponent(reply.body.data as string)}/status`
      expect((await target.client.get(task)).body.data).toMatchObject({ status: 'running' })
      hook.open()
    }
    expect((await ended(target, reply)).exitstatus).toBe('OK')
    // What was waiting for the stop is taken over.
    const done = (await target.client.get(`${lxc}/${vmid}/pending`)).body.data as Config[]
    expect(done).toContainEqual({ key: 'tty', value: 3 })
    await put(vmid, { tags: 'new' })
    const start = await target.client.post(`${lxc}/${vmid}/status/start`)
    expect((await ended(target, start)).exitstatus).toBe('OK')
    expect((await config(vmid)).tags).toBe('new')
    const stop = await target.client.post(`${lxc}/${vmid}/status/stop`)
    expect((await ended(target, stop)).exitstatus).toBe('OK')
    await remove(vmid)
  })
})
