import { expect, test } from 'vitest'
import { confirmTemplate } from '../../src/pve/read-back.ts'
import { stopGuest } from '../../src/pve/stop.ts'
import { MemoryProxmox, refused } from './memory-proxmox.ts'

const forever = new AbortController().signal
const CONTAINER = { kind: 'lxc', node: 'pve', vmid: 9000 } as const

test('a container is stopped when its hook has written: what is written after that stays', async () => {
  const pve = new MemoryProxmox()
  const guest = pve.put(9000, { tags: 'old' }, { kind: 'lxc', status: 'running' })
  const hook = Promise.withResolvers<void>()
  pve.hook = () => hook.promise
  const seen: string[] = []
  const stopped = stopGuest(pve.client(), CONTAINER, forever).then(() => seen.push('stopped'))
  await expect.poll(() => guest.status).toBe('stopped')
  await pve.client().api.nodes.$('pve').lxc.$(9000).status.current.$get()
  expect(seen).toEqual([])
  hook.resolve()
  await stopped
  await pve.client().api.nodes.$('pve').lxc.$(9000).config.$put({ tags: 'new' })
  expect(guest.config.tags).toBe('new')
})

test('one that cannot be stopped is an error', async () => {
  const pve = new MemoryProxmox()
  pve.put(9000, {}, { kind: 'lxc', status: 'running' })
  pve.before = (call) => {
    if (call.endsWith('/stop')) throw refused('POST', '/x', 'Permission check failed', 403)
  }
  await expect(stopGuest(pve.client(), CONTAINER, forever)).rejects.toMatchObject({
    code: 'permission_denied',
  })
})

const WRITTEN = { tags: 'a;b', description: 'note' }
const TEMPLATE = {
  tags: 'a;b',
  description: 'note\n',
  template: 1,
  rootfs: 'local-lvm:base-9000-disk-0,size=2G',
}

test('a template that is as it was written is left alone', async () => {
  const pve = new MemoryProxmox()
  pve.put(9000, TEMPLATE, { kind: 'lxc' })
  await confirmTemplate(pve.client(), CONTAINER, WRITTEN)
  expect(pve.writes).toEqual([])
})

test('one whose configuration was overwritten by an old copy is repaired, root volume and all', async () => {
  const pve = new MemoryProxmox()
  pve.stored = [{ volid: 'local-lvm:base-9000-disk-0', vmid: 9000 }]
  const old = { tags: 'ib-building', description: 'old', rootfs: 'local-lvm:vm-9000-disk-0,size=2G' }
  const guest = pve.put(9000, old, { kind: 'lxc' })
  await confirmTemplate(pve.client(), CONTAINER, WRITTEN)
  expect(guest.config).toMatchObject({ ...WRITTEN, template: true, rootfs: TEMPLATE.rootfs })
})

test('whose volumes may not be seen, its root volume is believed', async () => {
  const pve = new MemoryProxmox()
  pve.stored = []
  pve.put(9000, TEMPLATE, { kind: 'lxc' })
  await confirmTemplate(pve.client(), CONTAINER, WRITTEN)
  expect(pve.writes).toEqual([])
})

test.each([
  ['it is overwritten again', TEMPLATE.rootfs, ['local-lvm:base-9000-disk-0']],
  ['its root volume may be one of two', 'local-lvm:vm-9000-disk-0', ['local-lvm:a', 'local-lvm:b']],
])('where %s, it is an error', async (_what, rootfs, volumes) => {
  const pve = new MemoryProxmox()
  pve.stored = volumes.map((volid) => ({ volid, vmid: 9000 }))
  const old = { tags: 'ib-building', description: 'old', rootfs }
  const guest = pve.put(9000, old, { kind: 'lxc' })
  pve.after = (call) => {
    if (call.startsWith('PUT') && rootfs === TEMPLATE.rootfs) guest.config = { ...old }
  }
  await expect(confirmTemplate(pve.client(), CONTAINER, WRITTEN)).rejects.toMatchObject({
    code: 'build_failed',
  })
})
