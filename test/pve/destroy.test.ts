import { afterEach, expect, test, vi } from 'vitest'
import { destroyGuest } from '../../src/pve/destroy.ts'
import { renderNote } from '../../src/pve/marks.ts'
import { pause, watched } from '../core/paused.ts'
import { MemoryProxmox } from './memory-proxmox.ts'

afterEach(() => {
  vi.restoreAllMocks()
})

const signal = AbortSignal.timeout(120_000)
const put = (pve: MemoryProxmox, run: string, status: 'running' | 'stopped') => {
  const own = { vmid: 9000, namespace: 'homelab', image: 'web', kind: 'vm' } as const
  return pve.put(9000, { description: renderNote({ schema: 1, ...own, tool: '0', run }) }, { status })
}

test('a guest that is another’s since this process has paused is left alone', async () => {
  const pve = new MemoryProxmox()
  put(pve, 'mine', 'running')
  using _watching = watched()
  // Stopping it takes as long as the pause; then its VMID is given to somebody else.
  pve.work = async (type) => {
    if (type !== 'qmstop') return undefined
    pause('stopped', 600)
    setImmediate(() => put(pve, 'theirs', 'stopped'))
    return undefined
  }
  await destroyGuest(pve.client(), { kind: 'vm', node: 'pve', vmid: 9000, run: 'mine', signal })
  expect(pve.guests.get(9000)?.config.description).toContain('theirs')
})

test('one that is still the same goes', async () => {
  const pve = new MemoryProxmox()
  put(pve, 'mine', 'running')
  using _watching = watched()
  pve.work = async (type) => {
    if (type === 'qmstop') pause('stopped', 600)
    return undefined
  }
  await destroyGuest(pve.client(), { kind: 'vm', node: 'pve', vmid: 9000, run: 'mine', signal })
  expect(pve.guests.size).toBe(0)
})

test('a console that somebody looks at keeps no guest', async () => {
  const pve = new MemoryProxmox()
  put(pve, 'mine', 'stopped')
  pve.addTask({ type: 'vncproxy', id: 9000 })
  await destroyGuest(pve.client(), { kind: 'vm', node: 'pve', vmid: 9000, run: 'mine', signal })
  expect(pve.guests.size).toBe(0)
})
