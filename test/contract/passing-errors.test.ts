import { afterEach, expect, test } from 'vitest'
import type { Reply } from './client.ts'
import { gate } from './gate.ts'
import { startLab } from './lab-target.ts'
import { ownPool } from './own.ts'
import { ended, LAB_FAULTS, startTarget, type Target } from './target.ts'

/** Clauses 24.4 and 24.5 of pve.md: what works when it is asked again. Of a container's status: post-stop.test.ts */

const busy = gate()
let target: Target | undefined
afterEach(async () => {
  await target?.stop()
  target = undefined
})

const isLab = process.env.IMAGEBUILD_TEST_PVE_URL === undefined

test('24.4 a list of guests fails while one of them is made, and names that one', async ({ skip }) => {
  if (!isLab) return skip(LAB_FAULTS)
  const passingErrors = { seed: 7, lists: 0.5, connections: 0 }
  const start = () => startTarget({ faults: { lockSeconds: 1, passingErrors }, pause: busy.pause })
  target = await start()
  const first = await lists(target)
  await target.stop()
  target = await start()
  expect(await lists(target), 'by the same seed').toEqual(first)
  expect(new Set(first).size, 'some fail, some do not').toBe(2)
})

/** What the first 30 lists say that are asked for while a virtual machine is made. */
async function lists(at: Target): Promise<string[]> {
  const vmid = await at.vmid()
  const path = `/nodes/${at.node}/qemu`
  busy.close()
  const create = await at.client.post(path, { vmid, memory: 16 })
  const said: string[] = []
  for (let n = 0; n < 30; n += 1) said.push(saidBy(await at.client.get(path)))
  const missing = `500 Configuration file 'nodes/${at.node}/qemu-server/${vmid}.conf' does not exist`
  expect(said.filter((text) => text !== '200 OK')).toEqual(
    Array(said.filter((text) => text !== '200 OK').length).fill(missing),
  )
  // Of the other kind nobody comes or goes, and a single guest's configuration is there, or is not.
  for (let n = 0; n < 10; n += 1) {
    expect((await at.client.get(`/nodes/${at.node}/lxc`)).status).toBe(200)
    expect((await at.client.get(`${path}/${vmid}/config`)).status).toBe(200)
  }
  busy.open()
  expect((await ended(at, create)).exitstatus).toBe('OK')
  for (let n = 0; n < 10; n += 1) expect((await at.client.get(path)).status).toBe(200)
  return said
}

const saidBy = ({ status, reason }: Reply) => `${status} ${reason}`

test('24.5 connections end without an answer, before the work or after it', async ({
  skip,
  onTestFinished,
}) => {
  if (!isLab) return skip(LAB_FAULTS)
  // By this seed the second request is never heard, and the fourth is done without an answer; three others pass.
  const passingErrors = { seed: 214, connections: 0.5 }
  // No request but the login is made before.
  const { root, own, close } = await startLab({ faults: { passingErrors } })
  if (root === undefined) throw new Error('a lab has a root@pam')
  onTestFinished(close)
  const [unheard, done] = [`${ownPool(own)}-unheard`, `${ownPool(own)}-done`]
  const pools = async () =>
    ((await root.get('/pools')).body.data as { poolid: string }[]).map(({ poolid }) => poolid)
  await expect(root.post('/pools', { poolid: unheard })).rejects.toThrow('fetch failed')
  expect(await pools()).toEqual([])
  await expect(root.post('/pools', { poolid: done })).rejects.toThrow('fetch failed')
  expect(await pools()).toEqual([done])
})

test('a wrong setting is named', async () => {
  const wrong = { passingErrors: { seed: 1, lists: 2 }, postStop: 1 }
  await expect(startLab({ faults: wrong as never })).rejects.toThrow(
    /^faults: [\s\S]*postStop[\s\S]*passingErrors\.lists/,
  )
})
