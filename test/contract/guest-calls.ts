import { expect } from 'vitest'
import type { Client, Fields, Reply } from './client.ts'
import { ownFile } from './own.ts'
import { ended, type Target } from './target.ts'
import { tinyArchive } from './tiny-archive.ts'

/** Short forms of calls about guests of the suite, of one kind. */
export function guestCalls(target: Target, kind: 'qemu' | 'lxc', client: Client = target.client) {
  const guests = `/nodes/${target.node}/${kind}`
  const path = (vmid: number, what = '') => `${guests}/${vmid}${what}`
  const post = (fields: Fields): Promise<Reply> => client.post(guests, fields)
  return {
    path,
    post,
    put: (vmid: number, fields: Fields): Promise<Reply> => client.put(path(vmid, '/config'), fields),
    config: async (vmid: number): Promise<Record<string, string | number>> =>
      (await client.get(path(vmid, '/config'))).body.data,
    /** gives the VMID, once it is made */
    async create(fields: Fields): Promise<number> {
      const vmid = await target.vmid()
      expect(await ended(target, await post({ vmid, ...fields }))).toMatchObject({ exitstatus: 'OK' })
      return vmid
    },
    /** gives how the removal has ended */
    destroy: async (vmid: number): Promise<string> =>
      (await ended(target, await target.client.delete(path(vmid), { purge: 1 }))).exitstatus,
  }
}

/** Uploads the smallest container, and gives what its create takes. */
export async function tinyContainer(target: Target, archive?: Buffer): Promise<Fields> {
  const name = ownFile(target.own, 'small_1_amd64.tar.zst')
  const reply = await target.client.upload(`/nodes/${target.node}/storage/${target.files}/upload`, [
    ['content', 'vztmpl'],
    ['filename', { name, data: archive ?? (await tinyArchive()) }],
  ])
  expect((await ended(target, reply)).exitstatus).toBe('OK')
  return {
    ...{ ostemplate: `${target.files}:vztmpl/${name}`, rootfs: `${target.files}:0.1`, ostype: 'unmanaged' },
    ...{ memory: 64, swap: 0 },
  }
}
