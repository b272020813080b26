import { mkdtemp, readFile, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { BuildGuest } from '../../src/build/guest.ts'
import { keepForInspection } from '../../src/build/keep.ts'
import { ImagebuildError } from '../../src/core/errors.ts'
import { fromTags, renderNote } from '../../src/pve/marks.ts'
import { WHERE } from '../plan/spec.ts'
import { type Config, MemoryProxmox } from '../pve/memory-proxmox.ts'
import { aBuild } from './world.ts'

let folder: string
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'imagebuild-kept-'))
})
afterEach(async () => {
  await rm(folder, { recursive: true })
})

const FAILURE = new ImagebuildError({
  code: 'build_failed',
  what: 'layer “install” failed',
  where: WHERE,
  why: 'it ended with exit code 3',
  output: ['last'],
  next: 'mend it',
})

/** What has VMID 9004, told apart by the token in its note. */
function there(guest = 'ours', tags = 'ib-id-9004;ib-building'): Config {
  const of = { namespace: 'homelab', image: 'web', kind: 'vm', tool: '0', run: 'r' } as const
  return { tags, description: renderNote({ schema: 1, vmid: 9004, ...of, guest }) }
}

function machine(address?: string) {
  const kept = { all: false }
  const key = { privateKey: 'PRIVATE KEY', publicKey: 'ssh-ed25519 AAAA x' }
  const guest = {
    guest: { kind: 'vm', vmid: 9004, node: 'pve', token: 'ours', addresses: async () => undefined },
    access: { user: 'imagebuild', userKey: key, hostKey: key.publicKey },
    identity: { mac: '02:1B:00:00:00:01', ...(address !== undefined && { address }) },
    keepAll: () => {
      kept.all = true
    },
  }
  return { kept, guest: guest as unknown as BuildGuest }
}

test('a failed guest is marked as kept for a day, and the error says how to get in', async () => {
  const pve = new MemoryProxmox()
  pve.put(9004, there(), { status: 'running' })
  const { kept, guest } = machine('192.0.2.100')
  const begun = Math.floor(Date.now() / 1000)
  const error = await keepForInspection(aBuild({ keptDir: folder }, pve), guest, FAILURE)
  const ended = Math.ceil(Date.now() / 1000)
  expect(kept.all).toBe(true)
  const marks = fromTags(9004, String(pve.guests.get(9004)?.config.tags))
  expect(marks).toMatchObject({ state: 'kept', image: 'web', namespace: 'homelab', address: '192.0.2.100' })
  expect(marks?.expires).toBeGreaterThanOrEqual(begun + 24 * 3600)
  expect(marks?.expires).toBeLessThanOrEqual(ended + 24 * 3600)

  const { what, where, why, output, code } = FAILURE
  expect(error).toMatchObject({ code, what, where, why, output })
  const keyFile = join(folder, '9004', 'id_ed25519')
  expect(error.next).toContain(`ssh -i ${keyFile} -o IdentitiesOnly=yes -o UserKnownHostsFile=`)
  expect(error.next).toContain('imagebuild@192.0.2.100')
  expect(error.next).toContain('imagebuild prune --kept')
  expect(JSON.stringify(error)).not.toContain('PRIVATE KEY')
  expect(await readFile(keyFile, 'utf8')).toContain('PRIVATE KEY')
  expect((await stat(keyFile)).mode & 0o777).toBe(0o600)
  expect((await stat(join(folder, '9004'))).mode & 0o777).toBe(0o700)
})

test('also when what failed is that the time for the build is over', async () => {
  const pve = new MemoryProxmox()
  pve.put(9004, there())
  const { kept, guest } = machine('192.0.2.100')
  const over = AbortSignal.abort(new Error('building web took longer than 7200 s'))
  await keepForInspection(
    aBuild({ keptDir: folder, signal: over, pve: pve.client(over) }, pve),
    guest,
    FAILURE,
  )
  expect(kept.all).toBe(true)
  expect(pve.tagsOf(9004)).toContain('ib-kept')
})

test('a guest that cannot be kept does not hide why the build failed', async () => {
  const pve = new MemoryProxmox() // it has no such guest
  const { kept, guest } = machine('192.0.2.100')
  const build = aBuild({ keptDir: folder }, pve)
  expect(await keepForInspection(build, guest, FAILURE)).toBe(FAILURE)
  expect(kept.all).toBe(false)
  expect(build.events).toMatchObject([
    { type: 'warning', message: expect.stringContaining('VM 9004 cannot be kept') },
  ])
})

describe('another run’s template that has the VMID by now', () => {
  const theirs = there('theirs', 'ib-id-9004;ib-current')

  test.each<[string, (pve: MemoryProxmox) => void]>([
    ['stays as it is', (pve) => pve.put(9004, theirs)],
    [
      'stays as it is, also where it comes at the last moment',
      (pve) => {
        pve.put(9004, there())
        pve.before = (call) => {
          if (call.startsWith('PUT')) pve.put(9004, theirs)
        }
      },
    ],
  ])('%s', async (_what, come) => {
    const pve = new MemoryProxmox()
    come(pve)
    const { kept, guest } = machine('192.0.2.100')
    const build = aBuild({ keptDir: folder }, pve)
    expect(await keepForInspection(build, guest, FAILURE)).toBe(FAILURE)
    expect(kept.all).toBe(false)
    expect(pve.guests.get(9004)?.config).toEqual(theirs)
    expect(build.events).toMatchObject([
      { type: 'warning', message: expect.stringContaining('VM 9004 cannot be kept') },
    ])
  })
})

test('where nobody knows the address, the console is named', async () => {
  const pve = new MemoryProxmox()
  pve.put(9004, there())
  const error = await keepForInspection(aBuild({ keptDir: folder }, pve), machine().guest, FAILURE)
  expect(error.next).toContain('qm terminal 9004')
})
