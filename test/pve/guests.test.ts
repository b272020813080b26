import { describe, expect, test } from 'vitest'
import type { Event } from '../../src/core/events.ts'
import { destroyGuest, isMissing } from '../../src/pve/destroy.ts'
import { PveTaskError } from '../../src/pve/errors.ts'
import type { GuestRequest } from '../../src/pve/guest.ts'
import { createGuest, isTaken } from '../../src/pve/guests.ts'
import { renderNote, toTags } from '../../src/pve/marks.ts'
import { type Config, MemoryProxmox, PLACE, refused } from './memory-proxmox.ts'

const note = (vmid: number, run: string) =>
  renderNote({ schema: 1, vmid, namespace: 'homelab', image: 'web', kind: 'vm', tool: '0', run })

function request(change: Partial<GuestRequest> = {}): GuestRequest & { events: Event[] } {
  const events: Event[] = []
  return {
    kind: 'vm',
    place: PLACE,
    image: 'web',
    run: 'mine',
    range: PLACE.vmids.templates,
    emit: (event) => events.push(event),
    signal: new AbortController().signal,
    seconds: 60,
    parameters: (vmid) => ({
      name: 'ib-build-web',
      tags: `ib-id-${vmid}`,
      description: note(vmid, 'mine'),
      cores: 2,
    }),
    ...change,
    events,
  }
}

const forever = new AbortController().signal

describe('creating a guest', () => {
  test('takes the first free VMID, with tags and note from the very first', async () => {
    const pve = new MemoryProxmox()
    pve.put(9000, { name: 'theirs' })
    pve.put(9001, { name: 'theirs' }, { node: 'pve2' })
    await using guest = await createGuest(pve.client(), request())
    expect(guest.vmid).toBe(9002)
    expect(pve.writes).toEqual(['POST /nodes/pve/qemu'])
    expect(pve.guests.get(9002)?.config).toMatchObject({
      tags: 'ib-id-9002',
      cores: 2,
      description: note(9002, 'mine'),
    })
  })

  test.each([
    ['begins behind the newest version of its image', [[9002, 'web', '20260102.10']], 9003],
    ['goes round', [[9009, 'web', '20260102.10']], 9000],
    [
      'counts versions as numbers, and other images not',
      [
        [9004, 'web', '20260102.9'],
        [9002, 'web', '20260102.10'],
        [9007, 'db', '20260103.1'],
      ],
      9003,
    ],
    ['does not begin behind a fixed VMID outside', [[8000, 'web', '20260102.1']], 9000],
    [
      'leaves out what is taken and what is fixed',
      [
        [9002, 'web', '20260102.1'],
        [9003, 'db', '20260102.1'],
      ],
      9005,
      [9004],
    ],
  ] as [string, [number, string, string][], number, number[]?][])('%s', async (_what, there, vmid, fixed) => {
    const pve = new MemoryProxmox()
    for (const [at, image, version] of there) {
      const marks = { vmid: at, namespace: 'homelab', image, version, state: 'retired' } as const
      pve.put(at, { tags: toTags(marks), template: 1 })
    }
    const place = { ...PLACE, vmids: { ...PLACE.vmids, ...(fixed && { fixed }) } }
    await using guest = await createGuest(pve.client(), request({ place }))
    expect(guest.vmid).toBe(vmid)
  })

  test('is removed with its scope, running or not; kept only if somebody says so', async () => {
    const pve = new MemoryProxmox()
    {
      await using guest = await createGuest(pve.client(), request())
      await guest.start()
      expect((await guest.status()).status).toBe('running')
    }
    expect(pve.guests.size).toBe(0)
    {
      await using guest = await createGuest(pve.client(), request())
      guest.keep()
    }
    expect(pve.guests.size).toBe(1)
  })

  test('that loses the race for a VMID takes the next one, and leaves the winner’s alone', async () => {
    const pve = new MemoryProxmox()
    pve.before = (call) => {
      if (!call.startsWith('POST')) return
      pve.before = () => {}
      pve.put(9000, { name: 'quicker' })
    }
    await using guest = await createGuest(pve.client(), request())
    expect(guest.vmid).toBe(9001)
    expect(pve.guests.get(9000)?.config).toEqual({ name: 'quicker' })
    expect(pve.writes.filter((call) => call.startsWith('DELETE'))).toEqual([])
  })

  test('in a range that is full says so', async () => {
    const pve = new MemoryProxmox()
    for (let vmid = 9000; vmid <= 9009; vmid += 1) pve.put(vmid, {})
    await expect(createGuest(pve.client(), request())).rejects.toMatchObject({ code: 'busy', exitCode: 75 })
    expect(pve.writes).toEqual([])
  })

  test('that Proxmox refuses tries no other VMID', async () => {
    const pve = new MemoryProxmox()
    pve.before = (call) => {
      if (call.startsWith('POST')) throw refused('POST', '/nodes/pve/qemu', 'Permission check failed', 403)
    }
    await expect(createGuest(pve.client(), request())).rejects.toMatchObject({ code: 'permission_denied' })
    expect(pve.writes).toHaveLength(1)
  })

  test('whose task fails leaves nothing, and leaves alone who has the VMID by then', async () => {
    const pve = new MemoryProxmox()
    pve.work = async (type) => (type === 'qmcreate' ? 'no space left on device' : undefined)
    pve.before = (call) => {
      // Proxmox has cleaned up already, and somebody else was quick: a guest without a note of ours.
      if (call.startsWith('GET /nodes/pve/qemu/9000'))
        pve.put(9000, { name: 'theirs' }, { status: 'running' })
    }
    const asked = request()
    const error = await createGuest(pve.client(), asked).catch((error) => error)
    expect(error).toMatchObject({ code: 'busy', why: 'no space left on device' })
    expect([...pve.guests.values()]).toEqual([
      { kind: 'vm', node: 'pve', config: { name: 'theirs' }, status: 'running' },
    ])
    expect(asked.events).toEqual([])
  })

  test('whose answer got lost, after Proxmox had done the work, is removed', async () => {
    const pve = new MemoryProxmox()
    pve.after = (call) => {
      if (call.startsWith('POST')) throw new Error('socket hang up')
    }
    await expect(createGuest(pve.client(), request())).rejects.toThrow('socket hang up')
    expect(pve.guests.size).toBe(0)
  })

  test('whose answer got lost, while somebody else made that VMID, touches nothing', async () => {
    const pve = new MemoryProxmox()
    pve.before = (call) => {
      if (!call.startsWith('POST')) return
      pve.put(9000, { name: 'theirs', description: note(9000, 'theirs') })
      throw new Error('socket hang up')
    }
    await expect(createGuest(pve.client(), request())).rejects.toThrow('socket hang up')
    expect([...pve.guests.keys()]).toEqual([9000])
  })

  test('that is aborted before the answer is removed, as soon as Proxmox shows it', async () => {
    const pve = new MemoryProxmox()
    const controller = new AbortController()
    const reason = new Error('Ctrl-C')
    pve.after = (call) => {
      if (!call.startsWith('POST')) return
      // The request is on its way; Proxmox works on for a moment, and shows a guest without any marks.
      controller.abort(reason)
    }
    const go = Promise.withResolvers<undefined>()
    pve.work = (type) => (type === 'qmcreate' ? go.promise : Promise.resolve(undefined))
    setTimeout(() => go.resolve(undefined), 100)
    const { signal } = controller
    await expect(createGuest(pve.client(signal), request({ signal }))).rejects.toBe(reason)
    expect(pve.guests.size).toBe(0)
  })

  test('that is aborted while its task copies: the task is stopped, nothing stays', async () => {
    const pve = new MemoryProxmox()
    const controller = new AbortController()
    const reason = new Error('Ctrl-C')
    pve.work = (type) => {
      if (type !== 'qmcreate') return Promise.resolve(undefined)
      setTimeout(() => controller.abort(reason), 10)
      return new Promise(() => {}) // copies for ever
    }
    const asked = request({ signal: controller.signal })
    await expect(createGuest(pve.client(controller.signal), asked)).rejects.toBe(reason)
    expect(pve.guests.size).toBe(0)
    expect(pve.writes.some((call) => /^DELETE .*\/tasks\/UPID/.test(call))).toBe(true)
    expect(asked.events).toEqual([])
  })

  test('that cannot be cleaned up tells what it left', async () => {
    const pve = new MemoryProxmox()
    const asked = request()
    {
      await using _guest = await createGuest(pve.client(), asked)
      pve.before = (call) => {
        if (call.startsWith('DELETE')) throw refused('DELETE', 'x', 'VM is locked (backup)')
      }
    }
    expect(asked.events).toMatchObject([{ type: 'leak', resource: 'VM 9000 on pve', image: 'web' }])
  })
})

describe('a guest from a template', () => {
  const parent = {
    name: 'base',
    tags: 'ib-id-9000;ib-current',
    description: note(9000, 'before'),
    template: 1,
    scsi0: 'local-lvm:base-9000-disk-0,size=3G',
    ide2: 'local-lvm:vm-9000-cloudinit,media=cdrom',
    ide0: 'local:iso/tools.iso,media=cdrom',
  }

  test('is a full clone with marks and hardware of its own, without the parent’s cloud-init drive', async () => {
    const pve = new MemoryProxmox()
    pve.put(9000, parent)
    let clone: Record<string, unknown> = {}
    pve.before = (call, params) => {
      if (call.endsWith('/clone')) clone = params
    }
    const cloneOf = { node: 'pve', vmid: 9000, name: 'base' }
    await using guest = await createGuest(
      pve.client(),
      request({ cloneOf, place: { ...PLACE, pool: 'builders' } }),
    )
    expect(clone).toMatchObject({
      newid: 9001,
      full: true,
      storage: 'local-lvm',
      pool: 'builders',
      description: note(9001, 'mine'),
    })
    const config = pve.guests.get(guest.vmid)?.config
    expect(config).toMatchObject({
      tags: 'ib-id-9001',
      cores: 2,
      scsi0: 'local-lvm:vm-9001-disk-0,size=3G',
      ide0: parent.ide0,
    })
    expect(config).not.toHaveProperty('ide2')
    expect(pve.guests.get(9000)?.config).toEqual(parent)
  })

  test('as consumers make it, it is linked where the storage can, and keeps its cloud-init drive', async () => {
    const pve = new MemoryProxmox()
    pve.put(9000, { template: 1, tags: 'ib-id-9000', ide2: 'local-lvm:vm-9000-cloudinit,media=cdrom' })
    const asked: unknown[] = []
    let linkable = true
    pve.before = (call, params) => {
      if (!call.endsWith('/clone')) return
      asked.push([params.full, params.storage])
      if (!linkable && !params.full)
        throw refused('POST', 'x', "Linked clone feature is not supported for 'x' (scsi0)")
    }
    const cloneOf = { node: 'pve', vmid: 9000, linked: true, asConsumer: true }
    const range = { first: 9001, last: 9009 }
    const linked = await createGuest(pve.client(), request({ cloneOf, range }))
    expect(asked.splice(0)).toEqual([[false, undefined]])
    expect(pve.guests.get(linked.vmid)?.config.ide2).toContain('cloudinit')
    linkable = false
    const full = await createGuest(pve.client(), request({ cloneOf, range }))
    expect(full.vmid).not.toBe(linked.vmid)
    expect(asked).toEqual([
      [false, undefined],
      [true, 'local-lvm'],
    ])
    await full[Symbol.asyncDispose]()
    expect([...pve.guests.keys()]).toEqual([9000, linked.vmid])
  })

  test('that is aborted in the middle of cloning leaves only the template', async () => {
    const pve = new MemoryProxmox()
    pve.put(9000, parent)
    const controller = new AbortController()
    pve.work = (type) => {
      if (type !== 'qmclone') return Promise.resolve(undefined)
      setTimeout(() => controller.abort(new Error('Ctrl-C')), 10)
      return new Promise(() => {})
    }
    const { signal } = controller
    const cloning = createGuest(pve.client(signal), request({ signal, cloneOf: { node: 'pve', vmid: 9000 } }))
    await expect(cloning).rejects.toThrow('Ctrl-C')
    expect([...pve.guests.keys()]).toEqual([9000])
  })
})

describe('a guest from a protected template', () => {
  test('is not protected itself: it could not be removed', async () => {
    const pve = new MemoryProxmox()
    pve.put(9000, {
      name: 'base',
      template: 1,
      protection: 1,
      ide2: 'local-lvm:vm-9000-cloudinit,media=cdrom',
    })
    const asked = request({ cloneOf: { node: 'pve', vmid: 9000 } })
    {
      await using _guest = await createGuest(pve.client(), asked)
    }
    expect(asked.events).toEqual([])
    expect(pve.guests.get(9000)?.config.protection).toBe(1)
    expect([...pve.guests.keys()]).toEqual([9000])
  })
})

test('a conversion that is aborted is not stopped half-way, but waited for', async () => {
  const pve = new MemoryProxmox()
  const controller = new AbortController()
  const reason = new Error('Ctrl-C')
  const go = Promise.withResolvers<undefined>()
  pve.work = (type) => {
    if (type !== 'qmtemplate') return Promise.resolve(undefined)
    setTimeout(() => controller.abort(reason), 10)
    setTimeout(() => go.resolve(undefined), 50)
    return go.promise
  }
  const { signal } = controller
  const convert = async () => {
    await using guest = await createGuest(pve.client(signal), request({ signal }))
    await guest.toTemplate()
  }
  await expect(convert()).rejects.toBe(reason)
  expect(pve.writes.some((call) => call.includes('/tasks/'))).toBe(false)
  expect(pve.guests.size).toBe(0)
})

test('a guest that does not power off is told by its VMID', async () => {
  const pve = new MemoryProxmox()
  await using guest = await createGuest(pve.client(), request())
  await guest.start()
  await expect(guest.stopped(0.05)).rejects.toMatchObject({
    code: 'build_failed',
    what: 'VM 9000 was asked to power off, and still runs after 0.05 s',
  })
})

describe('growing a disk', () => {
  test.each([
    ['3G', 3 * 2 ** 30, undefined],
    ['3G', 2 ** 30, undefined],
    ['2252M', 8 * 2 ** 30, '8192M'],
    ['1T', 2 ** 40 + 1, '1048577M'],
    ['1024', 2 ** 20, '1M'],
  ])('of %s to %d bytes', async (size, bytes, asked) => {
    const pve = new MemoryProxmox()
    const resized: unknown[] = []
    pve.before = (call, params) => {
      if (call.endsWith('/resize')) {
        resized.push(params)
        throw new Error('seen')
      }
    }
    const parameters = (vmid: number): Config => ({
      description: note(vmid, 'mine'),
      scsi0: `local-lvm:d,discard=on,size=${size}`,
    })
    await using guest = await createGuest(pve.client(), request({ parameters }))
    await guest.growDisk('scsi0', bytes).catch(() => {})
    expect(resized).toEqual(asked === undefined ? [] : [{ disk: 'scsi0', size: asked }])
  })
})

describe('destroying a guest', () => {
  const target = { kind: 'vm' as const, node: 'pve', vmid: 9000, signal: forever }

  test('stops it first', async () => {
    const pve = new MemoryProxmox()
    pve.put(9000, {}, { status: 'running' })
    await destroyGuest(pve.client(), target)
    expect(pve.guests.size).toBe(0)
  })

  test('takes only the disks that its configuration names: others of this VMID may be another cluster’s', async () => {
    const pve = new MemoryProxmox()
    pve.put(9000, {})
    let asked: Record<string, unknown> = {}
    pve.before = (call, params) => {
      if (call.startsWith('DELETE')) asked = params
    }
    await destroyGuest(pve.client(), target)
    expect(asked).toEqual({ purge: true })
  })

  test('that is gone is no error', async () => {
    await destroyGuest(new MemoryProxmox().client(), target)
  })

  test('of another run, or of nobody’s, does nothing', async () => {
    const pve = new MemoryProxmox()
    for (const description of [note(9000, 'theirs'), note(8999, 'mine'), 'hands off', '']) {
      pve.put(9000, { description }, { status: 'running' })
      await destroyGuest(pve.client(), { ...target, run: 'mine' })
      expect(pve.guests.get(9000)?.status).toBe('running')
    }
    expect(pve.writes).toEqual([])
  })

  test('tries to delete it although stopping failed', async () => {
    const pve = new MemoryProxmox()
    const guest = pve.put(9000, { description: note(9000, 'mine') }, { status: 'running' })
    pve.work = async (type) => {
      if (type !== 'qmstop') return undefined
      guest.status = 'stopped'
      return 'VM quit/powerdown failed'
    }
    await destroyGuest(pve.client(), { ...target, run: 'mine' })
    expect(pve.guests.size).toBe(0)
  })

  test('that cannot be deleted is an error', async () => {
    const pve = new MemoryProxmox()
    pve.put(9000, { lock: 'backup' })
    await expect(destroyGuest(pve.client(), target)).rejects.toThrow(/locked/)
  })
})

test('Proxmox’s words for taken and for missing', () => {
  for (const message of [
    "unable to create VM 100 - VM 100 already exists on node 'pve'",
    "unable to create VM 120 - can't lock file '/var/lock/qemu-server/lock-120.conf' - got timeout",
    'unable to create VM 120: config file already exists',
  ])
    expect(isTaken(refused('POST', 'x', message))).toBe(true)
  expect(isTaken(refused('POST', 'x', 'Permission check failed', 403))).toBe(false)
  // The same words at the end of a task are about a storage.
  const exitstatus = "can't lock file '/var/lock/pve-manager/pve-storage-local-lvm' - got timeout"
  const task = { upid: 'x', type: 'qmcreate', id: '120', output: [] }
  expect(isTaken(new PveTaskError({ ...task, exitstatus }))).toBe(false)
  expect(
    isMissing(refused('GET', 'x', "Configuration file 'nodes/pve/qemu-server/100.conf' does not exist\n")),
  ).toBe(true)
  expect(isMissing(refused('GET', 'x', 'Permission check failed', 403))).toBe(false)
})

test('a guest agent that we may not ask is not one that does not answer', async () => {
  const pve = new MemoryProxmox()
  await using guest = await createGuest(pve.client(), request())
  let status = 403
  pve.before = (call) => {
    if (call.endsWith('/agent/ping')) throw refused('POST', '/agent/ping', 'Permission check failed', status)
  }
  await expect(guest.agentAnswers()).rejects.toMatchObject({ code: 'permission_denied' })
  status = 500
  expect(await guest.agentAnswers()).toBe(false)
})
