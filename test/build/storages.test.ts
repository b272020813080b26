import { expect, test } from 'vitest'
import { requireStorages } from '../../src/build/storages.ts'
import type { ImageSpec } from '../../src/definition/spec.ts'
import { imageSpec } from '../plan/spec.ts'
import { MemoryProxmox, PLACE } from '../pve/memory-proxmox.ts'

const check = (pve: MemoryProxmox, place = PLACE, image: ImageSpec = imageSpec()) =>
  requireStorages(pve.client(), image, place).catch((error) => error)

test('storages that take disks, source images and seeds are fine, also when they are one', async () => {
  const pve = new MemoryProxmox()
  expect(await check(pve)).toBeUndefined()
  pve.storages.set('nas', { type: 'dir', content: 'iso,images,import', active: 1, enabled: 1 })
  expect(
    await check(pve, { ...PLACE, storages: { disks: 'nas', images: 'nas', archives: 'nas' } }),
  ).toBeUndefined()
})

test('a storage without `import`, as Proxmox has it by default, is told with the command that mends it', async () => {
  const pve = new MemoryProxmox()
  pve.storages.set('local', { type: 'dir', content: 'iso,vztmpl,backup', active: 1, enabled: 1 })
  expect(await check(pve)).toMatchObject({
    code: 'definition_invalid',
    exitCode: 65,
    why: 'storage local takes no import content (it has iso, vztmpl, backup)',
    next: expect.stringContaining('pvesm set local --content iso,vztmpl,backup,import'),
  })
})

test('all that is wrong is told at once', async () => {
  const pve = new MemoryProxmox()
  pve.storages.delete('local-lvm')
  pve.storages.set('local', { type: 'dir', content: 'vztmpl', active: 0, enabled: 1 })
  const error = await check(pve)
  expect(error.why).toContain('there is no storage local-lvm on pve')
  expect(error.why).toContain('storage local is not active on pve')
  expect(error.why).toContain('takes no import and no iso content')
})

test('no command is given that cannot work: a volume group holds no files', async () => {
  const error = await check(new MemoryProxmox(), {
    ...PLACE,
    storages: { disks: 'local-lvm', images: 'local-lvm', archives: 'local-lvm' },
  })
  expect(error.why).toContain('storage local-lvm takes no import and no iso content')
  expect(error.next).toBe('name other storages in imagebuild.yaml')
})
