import { beforeEach, describe, expect, test } from 'vitest'
import { buildImage } from '../../src/build/build.ts'
import type { ImageSpec, SourceSpec } from '../../src/definition/spec.ts'
import { imageSpec, lxcSpec, WHERE } from '../plan/spec.ts'
import { MemoryProxmox, refused } from '../pve/memory-proxmox.ts'
import { aBuild } from './world.ts'

/** A build where datacenter.cfg restricts tags: it learns that before it uploads anything, and leaves nothing behind. */

/** Nobody gets as far as fetching it. */
const source: SourceSpec = {
  ...{ kind: 'url', url: 'file:///nonexistent', checksum: { algorithm: 'sha256', value: '0'.repeat(64) } },
  ...{ format: 'qcow2', architecture: 'amd64', where: WHERE },
}

const words = (tag: string) => `Permission check failed (/, Sys.Modify for modifying tag '${tag}')`

let pve: MemoryProxmox
beforeEach(() => {
  pve = new MemoryProxmox()
})

async function failed(image: ImageSpec = imageSpec({ source })) {
  const build = aBuild({ image }, pve)
  const error = await buildImage(build).catch((error) => error)
  expect(error).toMatchObject({ code: 'permission_denied', exitCode: 77 })
  expect(build.events.filter(({ type }) => type === 'leak' || type === 'step.start')).toEqual([])
  expect([...pve.guests.keys()]).toEqual([])
  expect(pve.writes.filter((call) => !/^\w+ \/nodes\/pve\/qemu(\/99\d\d)?\b/.test(call))).toEqual([])
  return error
}

/** Registered tags, as a changed configuration meets them. */
function register(...registered: string[]): void {
  pve.before = (call, { tags }) => {
    if (!call.startsWith('PUT')) return
    const tag = String(tags)
      .split(';')
      .find((one) => registered.includes(one))
    if (tag !== undefined) throw refused('PUT', call.slice(4), words(tag), 403)
  }
}

test('by the task that creates the claim, on Proxmox VE 9.2', async () => {
  pve.work = async (type, vmid) =>
    type === 'qmcreate' ? `unable to create VM ${vmid} - 403 ${words('HASH(0x5581b2c1c0a8)')}` : undefined
  expect((await failed()).next).toContain('user-tag-access: user-allow=free')
})

describe('by the first change of the claim, where a new machine may have any tag', () => {
  test.each(['ib-building', 'ib-kept', 'ib-candidate', 'ib-current', 'ib-verified-outside', 'ib-held'])(
    '%s',
    async (tag) => {
      register(tag)
      expect((await failed()).what).toContain(tag)
    },
  )

  test('a tag of the definition’s', async () => {
    register('debian')
    const template = { tags: ['debian'], keep: 3 }
    expect((await failed(imageSpec({ source, template }))).next).toContain('`template.tags`')
    const archive = { ...template, archive: false }
    expect((await failed(lxcSpec({ source, template: archive }))).next).toContain('`template.tags`')
  })
})
