import { expect, test } from 'vitest'
import { finish } from '../../src/build/finish.ts'
import { type Marks, toTags } from '../../src/pve/marks.ts'
import type { Template } from '../../src/pve/templates.ts'
import { MemoryProxmox } from '../pve/memory-proxmox.ts'
import { aBuild, aClaim } from './world.ts'

function put(pve: MemoryProxmox, vmid: number, rest: Pick<Marks, 'state' | 'version' | 'turn'>): Template {
  const marks: Marks = { vmid, namespace: 'homelab', image: 'web', ...rest }
  pve.put(vmid, { name: 'web', tags: toTags(marks), template: 1 })
  return { kind: 'vm', node: 'pve', vmid, name: 'web', marks }
}

test('a claim that is gone at the very moment of the promotion: what became current meanwhile stays', async () => {
  const pve = new MemoryProxmox()
  const candidate = put(pve, 9001, { state: 'candidate', version: '20260102.1' })
  const before = pve.tagsOf(9001)
  let wasGone = false
  const claim = {
    ...aClaim(),
    get wasGone() {
      return wasGone
    },
  }
  // As `guard` does before a change that follows a pause: it claims the image anew.
  const guarded = pve.client().withGate(async () => {
    wasGone = true
    put(pve, 9002, { state: 'current', version: '20260103.1', turn: 3 })
  })
  const build = aBuild({ pve: guarded }, pve)
  const { template, held } = await finish(build, claim, candidate, 2)
  expect([template.vmid, held]).toEqual([9002, false])
  expect(pve.tagsOf(9001)).toEqual(before)
  expect(build.events).toMatchObject([
    { type: 'warning', message: expect.stringContaining('20260103.1 became current while this was built') },
  ])
})
