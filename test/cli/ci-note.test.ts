import { expect, test } from 'vitest'
import { forgetFailures, noteFailure, noteUnmended } from '../../src/cli/ci-note.ts'
import { digestOfReasons, type StaleReason } from '../../src/plan/staleness.ts'
import { imageTemplates, readNote } from '../../src/pve/templates.ts'
import { MemoryProxmox, refused } from '../pve/memory-proxmox.ts'
import { putOurs } from '../pve/our-guest.ts'

const reason = (kind: StaleReason['kind']): StaleReason => ({
  kind,
  subject: 'x',
  text: 'x',
  action: 'refresh',
})
const state = (...kinds: StaleReason['kind'][]) => ({ reasons: kinds.map(reason), digest: 'sha256:a' })

async function world() {
  const memory = new MemoryProxmox()
  putOurs(memory, 9000, 'current')
  const pve = memory.client(new AbortController().signal)
  const templates = await imageTemplates(pve, { namespace: 'homelab', image: 'web', nodes: ['pve'] })
  const note = async () => readNote(pve, { kind: 'vm', node: 'pve', vmid: 9000 })
  return { memory, pve, templates, note }
}

test('failures for the same reasons are counted; other reasons begin anew', async () => {
  const { pve, templates, note, memory } = await world()
  const tags = memory.tagsOf(9000)
  await noteFailure(pve, templates, state('security'))
  await noteFailure(pve, templates, state('security'))
  expect((await note())?.failures).toMatchObject({ count: 2, reasons: digestOfReasons(state('security')) })
  await noteFailure(pve, templates, state('age'))
  expect((await note())?.failures).toMatchObject({ count: 1 })
  await forgetFailures(pve, templates)
  expect((await note())?.failures).toBeUndefined()
  expect(memory.tagsOf(9000)).toEqual(tags)
})

test('what another run writes at the same moment is kept', async () => {
  const { pve, templates, note, memory } = await world()
  memory.before = (call) => {
    if (!call.startsWith('PUT')) return
    memory.before = () => {}
    putOurs(memory, 9000, 'current', { note: { unmended: ['0a1b2c3d'] } })
    throw refused('PUT', 'x', 'detected modified configuration - file change by other user? Try again.')
  }
  await noteFailure(pve, templates, state('security'))
  expect(await note()).toMatchObject({ unmended: ['0a1b2c3d'], failures: { count: 1 } })
})

test('what a rebuild could not mend is in the note, which has room for the most that there can be', async () => {
  const { pve, templates, note } = await world()
  const unmended = Array.from({ length: 64 }, (_, index) => index.toString(16).padStart(8, '0'))
  await noteUnmended(pve, templates, unmended)
  expect((await note())?.unmended).toEqual(unmended)
})
