import { describe, expect, test } from 'vitest'
import type { Event } from '../../src/core/events.ts'
import { destroyGuest, isMissing } from '../../src/pve/destroy.ts'
import { PveError, PveTaskError } from '../../src/pve/errors.ts'
import type { Guest, GuestName, GuestRequest } from '../../src/pve/guest.ts'
import { createGuest } from '../../src/pve/guests.ts'
import { renderNote, toTags } from '../../src/pve/marks.ts'
import { isTaken } from '../../src/pve/vmids.ts'
import { type Config, MemoryProxmox, PLACE, refused } from './memory-proxmox.ts'

const note = (vmid: number, run: string, guest?: string) =>
  renderNote({
    ...{ schema: 1, vmid, namespace: 'homelab', image: 'web', kind: 'vm', tool: '0', run },
    ...(guest !== undefined && { guest }),
  })

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
    parameters: ({ vmid, token }) => ({
      name: 'ib-build-web',
      tags: `ib-id-${vmid}`,
      description: note(vmid, 'mine', token),
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
      description: note(9002, 'mine', guest.token),
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

  test.each([
    ['vm', 'created'],
    ['vm', 'cloned'],
    ['lxc', 'created'],
  ] as const)(
    '%s: those that are %s at once have different VMIDs before Proxmox is asked',
    async (kind, how) => {
      const pve = new MemoryProxmox()
      pve.put(9000, { template: 1 }, { kind })
      const asked: unknown[] = []
      pve.before = (call, { vmid, newid }) => {
        if (/^POST .*\/(qemu|lxc|clone)$/.test(call)) asked.push(newid ?? vmid)
      }
      const ordered = request({ kind, ...(how === 'cloned' && { cloneOf: { node: 'pve', vmid: 9000 } }) })
      const client = pve.client()
      const guests = await Promise.all([1, 2, 3].map(() => createGuest(client, ordered)))
      expect(asked.toSorted()).toEqual([9001, 9002, 9003])
      expect(guests.map(({ vmid }) => vmid)).toEqual([9001, 9002, 9003])
      for (const guest of guests) await guest[Symbol.asyncDispose]()
      expect([...pve.guests.keys()]).toEqual([9000])
      await using again = await createGuest(client, ordered)
      expect(again.vmid).toBe(9001)
    },
  )

  test('two runs clone to one VMID: Proxmox accepts both, one’s task fails, and that one takes the next VMID', async () => {
    const pve = new MemoryProxmox()
    pve.put(9000, { template: 1 })
    // Two processes know nothing of each other's choice. The worst case: even their run has one name.
    const other = new MemoryProxmox()
    const client = pve.client()
    const stranger = { ...pve.client(), vmids: other.vmids }
    const cloneOf = { node: 'pve', vmid: 9000 }
    const guests = await Promise.all([
      createGuest(client, request({ cloneOf })),
      createGuest(stranger, request({ cloneOf })),
    ])
    expect(guests.map(({ vmid }) => vmid).toSorted()).toEqual([9001, 9002])
    for (const { vmid, token } of guests)
      expect(pve.guests.get(vmid)?.config.description).toBe(note(vmid, 'mine', token))
    expect(pve.writes.filter((call) => call.startsWith('DELETE'))).toEqual([])
  })

  test.each([
    'unable to create VM 9000: config file already exists',
    "can't lock file '/var/lock/qemu-server/lock-9000.conf' - got timeout",
  ])('whose task says “%s” takes the next VMID, and leaves the other’s alone', async (words) => {
    const pve = new MemoryProxmox()
    pve.put(8000, { template: 1 })
    pve.work = async (type, vmid) => {
      if (type !== 'qmclone' || pve.guests.get(9000)?.config.name === 'theirs') return undefined
      expect(vmid).toBe(9000)
      pve.put(9000, { name: 'theirs', lock: 'clone' })
      return words
    }
    pve.undo = false
    await using guest = await createGuest(pve.client(), request({ cloneOf: { node: 'pve', vmid: 8000 } }))
    expect(guest.vmid).toBe(9001)
    expect(pve.guests.get(9000)?.config).toEqual({ name: 'theirs', lock: 'clone' })
    expect(pve.writes.filter((call) => call.startsWith('DELETE'))).toEqual([])
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

  describe('whose answer is lost', () => {
    const lost = () =>
      new PveError({
        method: 'POST',
        path: '/x',
        delivery: 'unknown',
        passing: true,
        message: 'socket hang up',
      })
    const isOrder = (call: string) => /^POST .*\/(qemu|clone)$/.test(call)
    const orders = (pve: MemoryProxmox) => pve.writes.filter(isOrder)
    const template = { node: 'pve', vmid: 8000 }

    test.each([['create', undefined] as const, ['clone', template] as const])(
      'after Proxmox has carried it out, is used (%s)',
      async (_what, cloneOf) => {
        const pve = new MemoryProxmox()
        pve.put(8000, { template: 1 })
        pve.after = (call) => {
          if (isOrder(call)) throw lost()
        }
        const lines: string[] = []
        await using guest = await createGuest(
          pve.client(),
          request({ onLine: (line) => lines.push(line), ...(cloneOf && { cloneOf }) }),
        )
        expect(guest.vmid).toBe(9000)
        expect(orders(pve)).toHaveLength(1)
        expect(pve.guests.get(9000)?.config.description).toBe(note(9000, 'mine', guest.token))
        // The log of a create has a container's host keys; nothing else reads a clone's.
        expect(lines.length > 0).toBe(cloneOf === undefined)
      },
    )

    test('before Proxmox heard of it, is ordered again at the same VMID', async () => {
      const pve = new MemoryProxmox()
      pve.before = (call) => {
        if (!isOrder(call)) return
        pve.before = () => {}
        throw lost()
      }
      await using guest = await createGuest(pve.client(), request())
      expect(guest.vmid).toBe(9000)
      expect(orders(pve)).toHaveLength(2)
      expect([...pve.guests.keys()]).toEqual([9000])
    })

    test('and which Proxmox carries out only after it was looked for, is one guest all the same', async () => {
      const pve = new MemoryProxmox()
      pve.before = (call, params) => {
        if (!isOrder(call)) return
        // The first order arrives late: at the moment of the second.
        pve.before = () => {
          pve.before = () => {}
          const { vmid: _, ...config } = params
          pve.put(9000, config as Config)
        }
        throw lost()
      }
      await using guest = await createGuest(pve.client(), request())
      expect(guest.vmid).toBe(9000)
      expect([...pve.guests.keys()]).toEqual([9000])
    })

    test('and whose work begins late is not sent again: a task that may be it is waited for', async () => {
      const pve = new MemoryProxmox()
      pve.put(8000, { template: 1 })
      const locks = Promise.withResolvers<undefined>()
      const upid = pve.addTask({ type: 'qmclone', id: 8000, user: 'builder@pve!t1' })
      let isFirst = true
      pve.before = (call, params) => {
        if (!isOrder(call) || !isFirst) return
        isFirst = false
        // It waits for its locks, and makes the guest when it has them.
        void locks.promise.then(() => {
          pve.put(9000, { description: String(params.description) })
          pve.endTask(upid, 'OK')
        })
        setTimeout(() => locks.resolve(undefined), 2500)
        throw lost()
      }
      await using guest = await createGuest(pve.client(), request({ cloneOf: template }))
      expect(guest.vmid).toBe(9000)
      expect(orders(pve)).toHaveLength(1)
    })

    test('and refused the second time for another reason, is used where it was made after all', async () => {
      const pve = new MemoryProxmox()
      pve.put(8000, { template: 1 }, { kind: 'lxc' })
      let times = 0
      pve.before = (call, params) => {
        if (!isOrder(call)) return
        times += 1
        if (times === 1) throw lost()
        // The first one was under way all the time, and has the template locked.
        pve.put(9000, { description: String(params.description) }, { kind: 'lxc' })
        throw refused('POST', '/x', 'CT is locked (disk)')
      }
      await using guest = await createGuest(pve.client(), request({ kind: 'lxc', cloneOf: template }))
      expect(guest.vmid).toBe(9000)
      expect(pve.guests.has(9000)).toBe(true)
    })

    test('of what works on a guest, and is done before it is sent again: its refusal is no error', async () => {
      const pve = new MemoryProxmox()
      await using guest = await createGuest(pve.client(), request())
      let times = 0
      pve.before = (call) => {
        if (!call.endsWith('/start')) return
        times += 1
        if (times === 1) throw lost()
        const started = pve.guests.get(guest.vmid)
        if (started) started.status = 'running'
        throw refused('POST', '/x', `VM ${guest.vmid} already running`)
      }
      await guest.start()
      expect(times).toBe(2)
    })

    test('while another run made that VMID, takes the next one and touches nothing', async () => {
      const pve = new MemoryProxmox()
      pve.before = (call) => {
        if (!isOrder(call)) return
        pve.before = () => {}
        // Even a guest of a run that is called the same.
        pve.put(9000, { name: 'theirs', description: note(9000, 'mine', 'other') })
        throw lost()
      }
      {
        await using guest = await createGuest(pve.client(), request())
        expect(guest.vmid).toBe(9001)
      }
      expect([...pve.guests.keys()]).toEqual([9000])
    })

    test('again and again, is an error in the end, and nothing is left', async () => {
      const pve = new MemoryProxmox()
      pve.before = (call) => {
        if (isOrder(call)) throw lost()
      }
      await expect(createGuest(pve.client(), request())).rejects.toThrow('socket hang up')
      expect(orders(pve)).toHaveLength(3)
      expect(pve.guests.size).toBe(0)
    })

    test('of what works on a guest: carried out once, whether it arrived or not', async () => {
      const pve = new MemoryProxmox()
      await using guest = await createGuest(pve.client(), request())
      const started = () => pve.writes.filter((call) => call.endsWith('/start')).length
      pve.after = (call) => {
        if (call.endsWith('/start')) throw lost()
      }
      await guest.start()
      expect(started()).toBe(1)
      pve.after = () => {}
      await guest.stop()
      pve.before = (call) => {
        if (!call.endsWith('/start')) return
        pve.before = () => {}
        throw lost()
      }
      await guest.start()
      expect(started()).toBe(3)
      expect((await guest.status()).status).toBe('running')
    })

    test('of a configuration: written where it was not, and left where it was', async () => {
      const pve = new MemoryProxmox()
      await using guest = await createGuest(pve.client(), request())
      const puts = () => pve.writes.filter((call) => call.startsWith('PUT')).length
      pve.after = (call) => {
        if (call.startsWith('PUT')) throw lost()
      }
      await guest.configure({ tags: 'b;a', net0: 'virtio=02:1B:00:00:00:01,bridge=vmbr0', delete: 'ide9' })
      expect(puts()).toBe(1)
      pve.after = () => {}
      pve.before = (call) => {
        if (!call.startsWith('PUT')) return
        pve.before = () => {}
        throw lost()
      }
      await guest.configure({ name: 'other' })
      expect(puts()).toBe(3)
      expect(pve.guests.get(9000)?.config).toMatchObject({ tags: 'a;b', name: 'other' })
    })

    test('of a removal: the guest is gone', async () => {
      const pve = new MemoryProxmox()
      pve.put(9000, {})
      let times = 0
      pve.after = (call) => {
        if (call.startsWith('DELETE') && ++times === 1) throw lost()
      }
      await destroyGuest(pve.client(), { kind: 'vm', node: 'pve', vmid: 9000, signal: forever })
      expect(pve.guests.size).toBe(0)
    })
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

describe('a guest whose VMID another run’s guest has by now', () => {
  type Write = (guest: Guest) => Promise<unknown>
  const written = { tags: 'x', description: 'y' }
  const size = 'local-lvm:vm-9000-disk-0,size=3G'

  test.each<[string, Write]>([
    ['configured', (guest) => guest.configure({ name: 'x' })],
    ['grown', (guest) => guest.growDisk('scsi0', 2 ** 40)],
    ['started', (guest) => guest.start()],
    ['stopped', (guest) => guest.stop()],
    ['converted', (guest) => guest.toTemplate()],
    ['marked', (guest) => guest.mark(written)],
  ])('is not %s, nor removed', async (_what, write) => {
    const pve = new MemoryProxmox()
    const asked = request()
    const theirs = { name: 'theirs', description: note(9000, 'theirs', 'other'), scsi0: size }
    {
      await using guest = await createGuest(pve.client(), asked)
      pve.put(9000, theirs, { status: 'running' })
      const before = pve.writes.length
      await expect(write(guest)).rejects.toMatchObject({
        ...{ code: 'busy', exitCode: 75, what: 'VM 9000 on pve is another’s by now' },
      })
      // What is refused by the guest has not gone out: the memory writes calls down that pass the gate.
      expect(pve.writes.slice(before)).toEqual([])
    }
    expect(pve.guests.get(9000)).toMatchObject({ config: theirs, status: 'running' })
    expect(asked.events).toEqual([])
  })

  test('is not written to where the answer to the first try is lost', async () => {
    const pve = new MemoryProxmox()
    await using guest = await createGuest(pve.client(), request())
    pve.before = (call) => {
      if (!call.startsWith('PUT')) return
      pve.put(9000, { name: 'theirs' })
      throw new PveError({ method: 'PUT', path: call, delivery: 'unknown', passing: true, message: 'gone' })
    }
    await expect(guest.configure({ name: 'x' })).rejects.toMatchObject({ code: 'busy' })
    expect(pve.guests.get(9000)?.config).toEqual({ name: 'theirs' })
  })

  test('is gone where nothing has it', async () => {
    const pve = new MemoryProxmox()
    await using guest = await createGuest(pve.client(), request())
    pve.guests.delete(9000)
    await expect(guest.start()).rejects.toMatchObject({ what: 'VM 9000 on pve is gone' })
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
      description: note(9001, 'mine', guest.token),
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
    const parameters = ({ vmid, token }: GuestName): Config => ({
      description: note(vmid, 'mine', token),
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

  test('waits for a task that has it locked', async () => {
    const pve = new MemoryProxmox()
    pve.put(9000, {})
    let times = 0
    pve.work = async (type) => {
      if (type !== 'qmdestroy') return undefined
      times += 1
      return times === 1 ? "can't lock file '/var/lock/qemu-server/lock-9000.conf' - got timeout" : undefined
    }
    await destroyGuest(pve.client(), target)
    expect(times).toBe(2)
    expect(pve.guests.size).toBe(0)
  })

  test('that cannot be deleted is an error', async () => {
    const pve = new MemoryProxmox()
    pve.put(9000, { lock: 'backup' })
    await expect(destroyGuest(pve.client(), target)).rejects.toThrow(/locked/)
  })
})

test.each([
  ["unable to create VM 120 - VM 120 already exists on node 'pve'", true],
  ["unable to create CT 120 - CT 120 already exists on node 'pve'", true],
  ["VM ID already exists on node 'pve'", true],
  ['unable to create VM 120: config file already exists', true],
  ["can't lock file '/var/lock/qemu-server/lock-120.conf' - got timeout", true],
  ["unable to create CT 120 - can't lock file '/run/lock/lxc/pve-config-120.lock' - got timeout", true],
  ["close (rename) atomic file '/etc/pve/nodes/pve/qemu-server/120.conf' failed: File exists", true],
  // The lock of the template that is copied.
  ["can't lock file '/var/lock/qemu-server/lock-1200.conf' - got timeout", false],
  ["can't lock file '/var/lock/pve-manager/pve-storage-local-lvm' - got timeout", false],
  ["disk image '/var/lib/vz/images/120/vm-120-disk-0.qcow2' already exists", false],
  ['Permission check failed', false],
])('whether a VMID is taken: %s', (words, taken) => {
  const task = { upid: 'x', type: 'qmclone', id: '100', output: [] }
  expect(isTaken(refused('POST', 'x', words), 120)).toBe(taken)
  expect(isTaken(new PveTaskError({ ...task, exitstatus: words }), 120)).toBe(taken)
})

test('Proxmox’s words for missing', () => {
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
