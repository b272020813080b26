import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { prune } from '../../src/build/prune.ts'
import { readLockfile } from '../../src/cli/lockfile.ts'
import { type Switch, switchTo, templatesThere } from '../../src/cli/switching.ts'
import type { Event } from '../../src/core/events.ts'
import { fromTags } from '../../src/pve/marks.ts'
import { MemoryProxmox, PLACE, refused } from '../pve/memory-proxmox.ts'
import { putTemplate } from '../pve/our-guest.ts'

const [V1, V2] = ['20260101.1', '20260102.1'] as const

let root: string
let pve: MemoryProxmox
let events: Event[]
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'imagebuild-switching-'))
  pve = new MemoryProxmox()
  events = []
})
afterEach(() => rm(root, { recursive: true, force: true }))

const place = { ...PLACE, vmids: { ...PLACE.vmids, fixed: [8000, 8001] } }

function switching(change: Partial<Switch> = {}, signal = new AbortController().signal): Switch {
  return {
    ...{ places: [place], root, namespace: 'homelab', image: 'web', tool: '0', vmid: 8000, signal },
    emit: (event) => void events.push(event),
    pve: pve.client(signal),
    ...change,
  }
}

const states = () =>
  Object.fromEntries(
    [...pve.guests].map(([vmid, { config }]) => {
      const marks = fromTags(vmid, String(config.tags))
      const more = [marks?.held && 'held', marks?.swap && 'swap', marks?.standin && 'standin']
      return [vmid, [marks?.state, marks?.version, ...more].filter(Boolean).join(' ')]
    }),
  )

describe('a rollback to a fixed VMID', () => {
  beforeEach(() => {
    putTemplate(pve, 9000, 'previous', V1, { turn: 1 })
    putTemplate(pve, 8000, 'current', V2, { turn: 2 })
  })

  test('that its user cancels before anything went is not finished by anybody', async () => {
    const ended = new AbortController()
    pve.work = async (type) => {
      if (type === 'qmclone') ended.abort(new Error('Ctrl-C'))
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
    const to = switching({}, ended.signal)
    const rollback = switchTo(to, await templatesThere(to), { version: V1, held: true })
    await expect(rollback).rejects.toThrow('Ctrl-C')
    expect(states()).toEqual({ 9000: `previous ${V1}`, 8000: `current ${V2}` })
  })

  test('that was killed before anything went is ended by a promotion of what is there', async () => {
    // What was intended is still marked.
    putTemplate(pve, 9000, 'previous', V1, { turn: 1, swap: 8000, held: true })
    const to = switching()
    const line = await switchTo(to, await templatesThere(to), { version: V2, held: false })
    expect(line).toBe(`web: ${V2} (VM 8000 on pve)`)
    await prune({ ...to, place, keep: () => 3, dryRun: false, kept: false })
    expect(states()).toEqual({ 9000: `previous ${V1}`, 8000: `current ${V2}` })
  })
})

describe('a rollback on two nodes', () => {
  const places = [place, { ...place, node: 'b' }]
  beforeEach(() => {
    putTemplate(pve, 9000, 'previous', V1, { turn: 1 })
    putTemplate(pve, 8000, 'current', V2, { turn: 2 })
    putTemplate(pve, 9010, 'previous', V1, { turn: 1, node: 'b' })
    putTemplate(pve, 8001, 'current', V2, { turn: 2, node: 'b' })
  })

  test('changes nothing on one where something is in the way on the other', async () => {
    pve.put(500, { scsi0: 'local:8001/base-8001-disk-0.qcow2/500/vm-500-disk-0.qcow2' }, { node: 'b' })
    const to = switching({ places, vmid: { pve: 8000, b: 8001 } })
    const rollback = switchTo(to, await templatesThere(to), { version: V1, held: true })
    await expect(rollback).rejects.toThrow(/8001.*linked clones.*500/)
    expect(states()).toMatchObject({ 8000: `current ${V2}`, 8001: `current ${V2}` })
  })

  test('that fails on the second says what the first one has, and writes that down', async () => {
    const to = switching({ places, vmid: undefined })
    const templates = await templatesThere(to)
    pve.before = (call) => {
      if (call === 'PUT /nodes/b/qemu/9010/config') throw refused('PUT', 'x', 'no quorum')
    }
    await expect(switchTo(to, templates, { version: V1, held: true })).rejects.toMatchObject({
      next: expect.stringContaining(`${V1} is current on pve already: \`imagebuild rollback web\``) as string,
    })
    const { targets } = await readLockfile(root)
    expect(Object.values(targets)[0]?.web).toMatchObject({ version: V1, templates: { pve: 9000 } })
  })
})
