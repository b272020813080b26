import { expect, test } from 'vitest'
import { finish } from '../../src/build/finish.ts'
import { MemoryProxmox } from '../pve/memory-proxmox.ts'
import { putTemplate } from '../pve/our-guest.ts'
import { aBuild, aClaim } from './world.ts'

test('a claim that is gone at the very moment of the promotion: what became current meanwhile stays', async () => {
  const pve = new MemoryProxmox()
  const candidate = putTemplate(pve, 9001, 'candidate', '20260102.1')
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
    putTemplate(pve, 9002, 'current', '20260103.1', { turn: 3 })
  })
  const build = aBuild({ pve: guarded }, pve)
  const { template, held } = await finish(build, claim, candidate, 2)
  expect([template.vmid, held]).toEqual([9002, false])
  expect(pve.tagsOf(9001)).toEqual(before)
  expect(build.events).toMatchObject([
    { type: 'warning', message: expect.stringContaining('20260103.1 became current while this was built') },
  ])
})
