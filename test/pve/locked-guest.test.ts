import { describe, expect, test } from 'vitest'
import { lookAt } from '../../src/build/fixed-vmid.ts'
import { awaitMaking, tellNeverFinished } from '../../src/build/locked-guests.ts'
import type { Event } from '../../src/core/events.ts'
import { claimImage } from '../../src/pve/claim.ts'
import { destroyGuest } from '../../src/pve/destroy.ts'
import { createGuest } from '../../src/pve/guests.ts'
import { LockedGuest, lockedGuest } from '../../src/pve/locked-guest.ts'
import { renderNote } from '../../src/pve/marks.ts'
import { DIED, MemoryProxmox, PLACE, SOMEBODY } from './memory-proxmox.ts'

// What a dead worker leaves, and what only looks like it. Some of these wait until no task has been seen for 5 s.

const signal = new AbortController().signal
const OURS = 'builder@pve!t1'
const STUB = { lock: 'create' }

/** A look at VM 9001, and one after so many milliseconds. */
async function looks(pve: MemoryProxmox, after = 5000, ordered?: string) {
  let now = 0
  const guest = { kind: 'vm', node: 'pve', vmid: 9001 } as const
  const client = pve.client()
  const watched = new LockedGuest(client, guest, { now: () => now, ordered })
  const first = await watched.look()
  now = after
  const second = await watched.look()
  return { first, second, told: lockedGuest(client, guest, second) }
}

const told = (events: readonly Event[], type: Event['type']) => events.filter((event) => event.type === type)

describe('a guest that is locked for its creation', () => {
  test('is being created by the task that names it, whoever has started that', async () => {
    for (const [user, ours] of [
      [OURS, true],
      ['root@pam', false],
      ['builder@pve!t2', false],
    ] as const) {
      const pve = new MemoryProxmox()
      pve.put(9001, STUB)
      const upid = pve.addTask({ type: 'qmcreate', id: 9001, user })
      const { first, told } = await looks(pve)
      expect(first).toMatchObject({ by: 'task', ours, sure: true, task: { upid, user } })
      expect(told).toMatchObject({
        exitCode: 75,
        what: 'VM 9001 on pve is being created',
        why: `by task ${upid}, started by ${user}`,
      })
      expect(told.next).not.toContain('unlock')
    }
  })

  test.each([
    ['Proxmox VE 9', ['creating a clone of VM 130 with ID 9001']],
    [
      'Proxmox VE 8',
      [
        'create full clone of drive scsi0 (local:130/vm-130-disk-0.qcow2)',
        "Formatting '/var/lib/vz/images/9001/vm-9001-disk-0.qcow2'",
      ],
    ],
  ])('is being cloned by the task whose log names it: %s', async (_version, log) => {
    const pve = new MemoryProxmox()
    pve.put(9001, { lock: 'clone' })
    const upid = pve.addTask({ type: 'qmclone', id: 130, log })
    expect((await looks(pve)).first).toMatchObject({ by: 'task', sure: true, task: { upid } })
  })

  test('a clone whose log names nothing may be its maker, one that names another is not', async () => {
    const pve = new MemoryProxmox()
    pve.put(9001, { lock: 'clone' })
    pve.addTask({ type: 'qmclone', id: 130, log: ['creating a clone of VM 130 with ID 9002'] })
    expect((await looks(pve)).second).toEqual({ by: 'nobody' })
    pve.addTask({ type: 'qmclone', id: 140 })
    const { first, told } = await looks(pve)
    expect(first).toMatchObject({ by: 'task', sure: false })
    expect(told.next).not.toContain('unlock')
  })

  test('was left by a dead worker where no task has named it for 5 s: root can remove it', async () => {
    const pve = new MemoryProxmox()
    pve.put(9001, STUB)
    pve.addTask({ type: 'qmcreate', id: 9000 })
    pve.addTask({ type: 'qmcreate', id: 9001, status: 'OK' })
    expect((await looks(pve, 4999)).second).toEqual({ by: 'unsettled' })
    const { second, told } = await looks(pve)
    expect(second).toEqual({ by: 'nobody' })
    expect(told).toMatchObject({
      exitCode: 1,
      what: 'VM 9001 on pve was never finished, and keeps its lock',
      next: 'on pve, as root: qm unlock 9001 && qm destroy 9001',
    })
  })

  test('of a container the line is pct’s', () => {
    const guest = { kind: 'lxc', node: 'pve2', vmid: 310 } as const
    const { next } = lockedGuest({ user: OURS }, guest, { by: 'nobody' })
    expect(next).toBe('on pve2, as root: pct unlock 310 && pct destroy 310')
  })

  test('is not called dead while a removal waits for its lock; a task of another node is not its maker', async () => {
    const pve = new MemoryProxmox()
    pve.put(9001, STUB)
    const removal = pve.addTask({ type: 'qmdestroy', id: 9001 })
    expect((await looks(pve)).second).toEqual({ by: 'unsettled' })
    pve.endTask(removal, 'VM is locked (create)')
    expect((await looks(pve)).second).toEqual({ by: 'nobody' })
    pve.addTask({ type: 'qmcreate', id: 9001, node: 'pve2' })
    expect((await looks(pve)).second).toEqual({ by: 'nobody' })
  })

  describe('where the tasks of others cannot be seen', () => {
    function blind() {
      const pve = new MemoryProxmox()
      pve.put(9001, STUB)
      pve.audited = []
      return pve
    }

    test('no line to unlock it is given: somebody may be creating it', async () => {
      const pve = blind()
      pve.addTask({ type: 'qmcreate', id: 9001 })
      const { second, told } = await looks(pve)
      expect(second).toEqual({ by: 'unseen' })
      expect(told).toMatchObject({ exitCode: 75, why: expect.stringContaining('Sys.Audit on /nodes/pve') })
      expect(told.next).toContain('pvenode task list --source active')
      expect(told.next).not.toContain('unlock')
    })

    test('one’s own are seen', async () => {
      const pve = blind()
      pve.addTask({ type: 'qmcreate', id: 9001, user: OURS })
      expect((await looks(pve)).first).toMatchObject({ by: 'task', ours: true })
    })

    test('an own worker that has just died has left it; one that failed has not', async () => {
      const pve = blind()
      const died = pve.addTask({ type: 'qmcreate', id: 9001, user: OURS, status: DIED })
      const failed = pve.addTask({ type: 'qmcreate', id: 9001, user: OURS, status: 'received interrupt' })
      expect((await looks(pve, 5000, died)).second).toEqual({ by: 'nobody' })
      expect((await looks(pve, 5000, failed)).second).toEqual({ by: 'unseen' })
    })

    test('the newest own create tells, whichever run has ordered it; root must see that nobody has begun anew', async () => {
      for (const ends of [DIED, 'unable to read tail (got 0 bytes)']) {
        const pve = blind()
        pve.addTask({ type: 'qmcreate', id: 9001, user: OURS, status: 'OK' })
        const died = pve.addTask({ type: 'qmcreate', id: 9001, user: OURS, status: ends })
        // Neither another guest's, nor what cannot be seen.
        pve.addTask({ type: 'qmcreate', id: 9002, user: OURS, status: 'OK' })
        pve.addTask({ type: 'qmcreate', id: 9001 })
        const { second, told } = await looks(pve)
        expect(second).toEqual({ by: 'nobody', died })
        expect(told).toMatchObject({
          exitCode: 1,
          why: `the worker of task ${died} has died`,
          next: 'on pve, as root, where `pvenode task list --source active` has no task that creates it: qm unlock 9001 && qm destroy 9001',
        })
        pve.addTask({ type: 'qmcreate', id: 9001, user: OURS, status: 'OK' })
        expect((await looks(pve)).second).toEqual({ by: 'unseen' })
      }
    })
  })
})

describe.concurrent('who meets one', () => {
  const stub = (vmid: number) => {
    const pve = new MemoryProxmox()
    pve.put(vmid, STUB)
    return pve
  }

  test('a create whose worker dies ends at once, and says what root must type', async () => {
    const pve = new MemoryProxmox()
    pve.work = async () => DIED
    pve.audited = []
    const events: Event[] = []
    const created = createGuest(pve.client(), {
      ...{ kind: 'vm', place: PLACE, image: 'web', run: 'mine', range: PLACE.vmids.templates, signal },
      seconds: 60,
      emit: (event) => events.push(event),
      parameters: ({ vmid }) => ({
        description: renderNote({
          ...{ schema: 1, vmid, namespace: 'homelab', image: 'web', kind: 'vm', tool: '0', run: 'mine' },
        }),
      }),
    })
    await expect(created).rejects.toMatchObject({ why: DIED })
    expect(pve.guests.get(9000)?.config).toEqual(STUB)
    expect(told(events, 'leak')).toEqual([
      expect.objectContaining({
        resource: 'VM 9000 on pve',
        next: 'on pve, as root: qm unlock 9000 && qm destroy 9000',
      }),
    ])
  })

  test('a removal leaves alone what somebody else is creating by now', async () => {
    const pve = stub(9001)
    pve.addTask({ type: 'qmcreate', id: 9001 })
    await destroyGuest(pve.client(), { kind: 'vm', node: 'pve', vmid: 9001, run: 'mine', signal })
    expect(pve.writes).toEqual([])
  })

  test('a removal waits for what these credentials have ordered', async () => {
    const pve = stub(9001)
    const upid = pve.addTask({ type: 'qmcreate', id: 9001, user: OURS })
    let reads = 0
    pve.before = (call) => {
      if (call !== 'GET /nodes/pve/qemu/9001/config' || ++reads < 3) return
      pve.endTask(upid, 'OK')
      pve.put(9001, { name: 'made' })
    }
    await destroyGuest(pve.client(), { kind: 'vm', node: 'pve', vmid: 9001, signal })
    expect(pve.guests.has(9001)).toBe(false)
  })

  const by = (pve: MemoryProxmox, events: Event[] = []) => ({
    ...{ pve: pve.client(), place: PLACE, namespace: 'homelab', image: 'web', signal },
    emit: (event: Event) => void events.push(event),
  })

  test('a fixed VMID is not waited for where root must clear it, or where somebody else is creating there', async () => {
    await expect(lookAt(by(stub(8000)), 8000)).rejects.toMatchObject({
      exitCode: 1,
      next: 'on pve, as root: qm unlock 8000 && qm destroy 8000',
    })
    const pve = stub(8000)
    const upid = pve.addTask({ type: 'qmrestore', id: 8000 })
    await expect(lookAt(by(pve), 8000)).rejects.toMatchObject({
      exitCode: 75,
      why: `by task ${upid}, started by root@pam`,
    })
  })

  test('prune tells of it and of what others are creating, and waits for its own', async () => {
    const pve = stub(9001)
    pve.put(9901, STUB)
    pve.put(9002, STUB)
    pve.put(200, STUB)
    const theirs = pve.addTask({ type: 'qmcreate', id: 9901 })
    const ours = pve.addTask({ type: 'qmcreate', id: 9002, user: OURS })
    const events: Event[] = []
    let isTold = false
    pve.before = (call) => {
      // Only when the other one was told of, which takes 5 s.
      if (call !== 'GET /nodes/pve/qemu' || !isTold) return
      pve.endTask(ours, 'OK')
      pve.put(9002, { name: 'made' })
    }
    const looking = by(pve)
    await awaitMaking({
      ...looking,
      emit: (event) => {
        events.push(event)
        isTold ||= event.type === 'leak'
      },
    })
    expect(pve.guests.get(9002)?.config.lock).toBeUndefined()
    expect(told(events, 'leak')).toEqual([
      expect.objectContaining({
        resource: 'VM 9001 on pve',
        next: 'on pve, as root: qm unlock 9001 && qm destroy 9001',
      }),
    ])
    expect(told(events, 'info').map((event) => 'message' in event && event.message)).toEqual(
      expect.arrayContaining([
        `VM 9901 on pve is being created by task ${theirs}, started by root@pam`,
        expect.stringContaining('waiting for'),
      ]),
    )
  })

  test('where nobody can see who creates it, prune and a build warn, and call nothing left over', async () => {
    for (const tell of [awaitMaking, tellNeverFinished]) {
      const pve = stub(9001)
      pve.audited = []
      const events: Event[] = []
      await tell(by(pve, events))
      expect(events).toEqual([
        expect.objectContaining({
          type: 'warning',
          message: expect.stringContaining('VM 9001 on pve is locked'),
        }),
      ])
    }
  })

  test('a build tells of it, waits for nobody, and is silent about what others are creating', async () => {
    const pve = stub(9001)
    pve.put(9901, STUB)
    pve.addTask({ type: 'qmcreate', id: 9901 })
    const events: Event[] = []
    await tellNeverFinished(by(pve, events))
    expect(events).toEqual([expect.objectContaining({ type: 'leak', resource: 'VM 9001 on pve' })])
  })

  test('a claim passes one over', async () => {
    const pve = stub(9900)
    const claim = await claimImage(pve.client(), {
      ...{
        place: PLACE,
        namespace: 'homelab',
        image: 'web',
        run: 'mine',
        owner: SOMEBODY,
        tool: '0',
        slot: 0,
        signal,
      },
      emit: () => {},
      onLost: () => {},
    })
    expect(claim.vmid).toBe(9901)
    await claim[Symbol.asyncDispose]()
  })
})
