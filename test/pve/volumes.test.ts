import { describe, expect, test } from 'vitest'
import { PveError } from '../../src/pve/errors.ts'
import { putFile } from '../../src/pve/put-file.ts'
import { filenameOf, removeFile } from '../../src/pve/volumes.ts'
import { MemoryProxmox, PLACE } from './memory-proxmox.ts'

test('a file’s name is the end of its volume id', () => {
  expect(filenameOf({ volid: 'local:iso/x.iso' })).toBe('x.iso')
  expect(filenameOf({ volid: 'nfs:import/x.qcow2' })).toBe('x.qcow2')
})

test('a file whose deletion takes longer is waited for', async () => {
  const pve = new MemoryProxmox()
  const client = pve.client()
  let waited = ''
  const slow = {
    ...client,
    api: {
      nodes: {
        $: () => ({
          storage: { $: () => ({ content: { $: () => ({ $delete: async () => 'UPID:slow' }) } }) },
        }),
      },
    } as never,
    waitTask: async (upid: string) => {
      waited = upid
      return {} as never
    },
  }
  await removeFile(slow, PLACE, 'local:iso/x.iso')
  expect(waited).toBe('UPID:slow')
})

describe('a file whose upload has no answer', () => {
  const signal = new AbortController().signal
  const FILE = { content: 'import', filename: 'x.qcow2', source: { bytes: new Uint8Array(10) } } as const
  const put = (pve: MemoryProxmox) => putFile(pve.client(), PLACE, FILE, { seconds: 60, signal })
  const lost = () =>
    new PveError({ method: 'POST', path: '/x', delivery: 'unknown', message: 'socket hang up' })

  test('is not sent again where it has arrived', async () => {
    const pve = new MemoryProxmox()
    pve.after = (call) => {
      if (call.startsWith('upload')) throw lost()
    }
    expect(await put(pve)).toBe('local:import/x.qcow2')
    expect(pve.writes).toEqual(['upload x.qcow2'])
  })

  test('is sent again where it has not, and no more than once', async () => {
    const pve = new MemoryProxmox()
    let times = 0
    pve.before = (call) => {
      if (!call.startsWith('upload')) return
      times += 1
      if (times === 1) throw lost()
    }
    expect(await put(pve)).toBe('local:import/x.qcow2')
    expect(pve.writes).toHaveLength(2)
    pve.files.length = 0
    pve.before = (call) => {
      if (call.startsWith('upload')) throw lost()
    }
    await expect(put(pve)).rejects.toThrow('socket hang up')
    expect(pve.writes).toHaveLength(4)
  })
})
