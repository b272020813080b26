import { randomBytes } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, type TestContext, test } from 'vitest'
import type { Fields, Reply } from './client.ts'
import { holdProcess } from './held-process.ts'
import { ownFile } from './own.ts'
import { ended, NO_PROCESSES, RELEASES, startTarget, type Target } from './target.ts'

/** Clauses 8.5 and 8.6 of pve.md: what others may do while a guest is being made. */

describe.each(RELEASES)('$name', ({ pve }) => {
  let target: Target
  let guests: string
  let drive: string

  beforeAll(async () => {
    target = await startTarget(pve && { pve })
    guests = `/nodes/${target.node}/qemu`
    const name = ownFile(target.own, 'source.raw')
    drive = `${target.files}:0,import-from=${target.files}:import/${name}`
    const reply = await target.client.upload(`/nodes/${target.node}/storage/${target.files}/upload`, [
      ['content', 'import'],
      ['filename', { name, data: randomBytes(64 << 20) }],
    ])
    expect((await ended(target, reply)).exitstatus).toBe('OK')
  })
  afterAll(() => target?.stop())

  /** Stops the copying of one of the guest's disks, which has not begun yet, for as long as the test wants it. */
  const holdCopy = (context: TestContext, vmid: number) =>
    holdProcess(
      context,
      async (found) =>
        /^(?:\/usr\/bin\/)?qemu-img\0convert\0/.test(found.command) && target.isProcessOf(vmid, found),
    )

  /** A create that has begun to import and waits there. */
  async function slowCreate(context: TestContext): Promise<{ vmid: number; reply: Reply; goOn: () => void }> {
    const vmid = await target.vmid()
    const held = holdCopy(context, vmid)
    const reply = await target.client.post(guests, { vmid, scsi0: drive, scsi1: drive, scsi2: drive })
    return { vmid, reply, goOn: await held }
  }

  const put = (vmid: number, fields: Fields) => target.client.put(`${guests}/${vmid}/config`, fields)

  async function isGone(vmid: number): Promise<void> {
    expect((await target.client.get(`${guests}/${vmid}/config`)).status).toBe(500)
    const path = `/nodes/${target.node}/storage/${target.files}/content`
    expect((await target.client.get(path, { vmid, content: 'images' })).body.data).toEqual([])
  }

  describe('while a create runs', () => {
    test('8.5 its guest is there, locked; nobody else may use its VMID; a change waits in vain, or is refused', async (context) => {
      if (!target.processes) return context.skip(NO_PROCESSES)
      const { vmid, reply, goOn } = await slowCreate(context)
      expect((await target.client.get(`${guests}/${vmid}/config`)).body.data).toMatchObject({
        lock: 'create',
      })
      const [second, change, destroying] = await Promise.all([
        target.client.post(guests, { vmid }),
        put(vmid, { cores: 2 }),
        target.client.delete(`${guests}/${vmid}`).then((queued) => ended(target, queued)),
      ])
      const timeout = `can't lock file '/var/lock/qemu-server/lock-${vmid}.conf' - got timeout`
      expect(second).toMatchObject({ status: 500, reason: `unable to create VM ${vmid} - ${timeout}` })
      expect(second.seconds).toBeGreaterThan(4.5)
      expect(destroying.exitstatus).toBe(timeout)
      if (target.version < 9) {
        expect(change).toMatchObject({ status: 500, reason: timeout })
        expect(change.seconds).toBeGreaterThan(9.5)
      } else expect(change).toMatchObject({ status: 500, reason: 'VM is locked (create)' })
      goOn()
      expect((await ended(target, reply)).exitstatus).toBe('OK')
      const destroyed = await ended(target, await target.client.delete(`${guests}/${vmid}`))
      expect(destroyed.exitstatus).toBe('OK')
    })

    test('8.5 a change that waited takes place; a queued DELETE destroys what was made', async (context) => {
      if (!target.processes) return context.skip(NO_PROCESSES)
      const { vmid, reply, goOn } = await slowCreate(context)
      const change = put(vmid, { cores: 2, delete: 'scsi1' })
      const destroying = await target.client.delete(`${guests}/${vmid}`)
      expect(destroying.body.data).toMatch(/:qmdestroy:/)
      goOn()
      expect(await change).toMatchObject(
        target.version < 9 ? { status: 200 } : { status: 500, reason: 'VM is locked (create)' },
      )
      expect((await ended(target, reply)).exitstatus).toBe('OK')
      expect((await ended(target, destroying)).exitstatus).toBe('OK')
      await isGone(vmid)
    })

    test('8.6 stopping its task leaves nothing', async (context) => {
      if (!target.processes) return context.skip(NO_PROCESSES)
      const { vmid, reply, goOn } = await slowCreate(context)
      const task = `/nodes/${target.node}/tasks/${encodeURIComponent(reply.body.data as string)}`
      expect((await target.client.delete(task)).body).toEqual({ data: null })
      goOn()
      expect((await ended(target, reply)).exitstatus).toMatch(/received interrupt/)
      await isGone(vmid)
      // The VMID is free again.
      expect((await target.client.get('/cluster/nextid', { vmid })).body.data).toBe(String(vmid))
    })

    test('8.6 nor does a clone that is stopped', async (context) => {
      if (!target.processes) return context.skip(NO_PROCESSES)
      const vmid = await target.vmid()
      await ended(target, await target.client.post(guests, { vmid, scsi0: drive, scsi1: drive }))
      const newid = await target.vmid()
      const held = holdCopy(context, newid)
      const reply = await target.client.post(`${guests}/${vmid}/clone`, { newid, full: 1 })
      const goOn = await held
      await target.client.delete(
        `/nodes/${target.node}/tasks/${encodeURIComponent(reply.body.data as string)}`,
      )
      goOn()
      expect((await ended(target, reply)).exitstatus).toMatch(/^clone failed: .*interrupted by signal$/)
      await isGone(newid)
      expect((await ended(target, await target.client.delete(`${guests}/${vmid}`))).exitstatus).toBe('OK')
    })
  })
})
