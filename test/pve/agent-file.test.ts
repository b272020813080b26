import { expect, test } from 'vitest'
import { readByAgent } from '../../src/pve/agent-file.ts'
import { createApi } from '../../src/pve/api.ts'
import { refused } from './memory-proxmox.ts'

const FILE = '/etc/ssh/ssh_host_ed25519_key.pub'

/** What comes of an answer to `agent/file-read`. */
async function read(answer: () => unknown): Promise<string | undefined> {
  const api = createApi(async (method, path, params) => {
    expect([method, path, params]).toEqual(['GET', '/nodes/pve/qemu/9000/agent/file-read', { file: FILE }])
    return answer()
  })
  // Nothing else of the connection is used.
  return await readByAgent({ api } as Parameters<typeof readByAgent>[0], { node: 'pve', vmid: 9000 }, FILE)
}

test.each([
  // As Proxmox VE 8.4 and 9.2 answer.
  [{ content: 'ssh-ed25519 AAAA root@web\n', 'bytes-read': 26 }, 'ssh-ed25519 AAAA root@web\n'],
  [{ content: '', 'bytes-read': 0 }, ''],
])('a whole file: %j', async (answer, content) => {
  expect(await read(() => answer)).toBe(content)
})

test('a part of a file is not taken for all of it', async () => {
  const answer = { content: 'ssh-ed25519 AA\n', 'bytes-read': 15, truncated: 1 }
  expect(await read(() => answer)).toBeUndefined()
})

test('no agent, or no such file', async () => {
  const refuse = () => Promise.reject(refused('GET', FILE, 'QEMU guest agent is not running'))
  expect(await read(refuse)).toBeUndefined()
})
