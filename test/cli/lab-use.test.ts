import { expect, test } from 'vitest'
import { describeUse, labUse } from '../../src/cli/lab-use.ts'
import { renderNote, toTags } from '../../src/pve/marks.ts'
import { MemoryProxmox, SOMEBODY, soon } from '../pve/memory-proxmox.ts'

test('a swap is told as that, and its guests and tasks are its own', async () => {
  const pve = new MemoryProxmox()
  const [owner, expires] = [SOMEBODY, soon()]
  const since = '2026-03-04T05:06:07Z'
  const claim = (vmid: number, image: string) => {
    const what = { vmid, namespace: 'homelab', image }
    pve.put(vmid, {
      tags: toTags({ ...what, state: 'claim', expires }),
      description: renderNote({ ...what, schema: 1, kind: 'vm', tool: '0', run: 'r', owner, since, expires }),
    })
  }
  const guest = (vmid: number, image: string) =>
    pve.put(
      vmid,
      { name: image, tags: toTags({ vmid, namespace: 'homelab', image, state: 'building' }) },
      { status: 'running' },
    )
  claim(9900, 'debian-base.lab')
  claim(9901, 'web')
  guest(9001, 'debian-base')
  guest(9002, 'web')
  guest(9003, 'shop')
  for (const id of [9001, 9003]) pve.addTask({ type: 'qmclone', id })
  const use = await labUse(pve.client(), 1, [])
  const who = `process ${owner.pid} on ${owner.host}, since ${since}`
  expect(describeUse(use)).toEqual([
    `the swap of debian-base on lab by ${who}`,
    `the build of web by ${who}`,
    'the task qmclone of 9003, started by root@pam',
    'VM 9003 (shop), which runs',
  ])
})
