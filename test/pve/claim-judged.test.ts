import { readFile } from 'node:fs/promises'
import { execa } from 'execa'
import { afterEach, describe, expect, test, vi } from 'vitest'
import { claimImage } from '../../src/pve/claim.ts'
import { isStale } from '../../src/pve/claim-judged.ts'
import { CLAIM_SECONDS } from '../../src/pve/claim-note.ts'
import type { Pve } from '../../src/pve/client.ts'
import { readConfig } from '../../src/pve/guest-ref.ts'
import { type Note, parseNote, renderNote, toTags } from '../../src/pve/marks.ts'
import { thisOwner } from '../../src/pve/owner.ts'
import { held, request, runAt, SLOT } from './claims.ts'
import { MemoryProxmox, past, soon } from './memory-proxmox.ts'

describe('whether somebody still works under a claim', () => {
  const isStaleNow = async (client: Pve) => {
    const config = await readConfig(client, { kind: 'vm', node: 'pve', vmid: SLOT })
    return await isStale(client, { node: 'pve', vmid: SLOT, config: config as { digest: string } })
  }

  test.each([
    ['ahead', 600_000],
    ['behind', -600_000],
  ])('is judged by the server’s clock, where this machine’s is ten minutes %s of it', async (_how, apart) => {
    const pve = new MemoryProxmox()
    pve.now = () => Date.now() - apart
    const client = pve.client()
    held(pve, { expires: (pve.now() ?? 0) / 1000 + 60 })
    expect(await isStaleNow(client)).toBe(false)
    held(pve, { expires: (pve.now() ?? 0) / 1000 - 60 })
    expect(await isStaleNow(client)).toBe(true)
    {
      const begun = Math.floor((pve.now() ?? 0) / 1000)
      await using _claim = await claimImage(client, request())
      const ended = Math.ceil((pve.now() ?? 0) / 1000)
      const note = parseNote(SLOT, String(pve.guests.get(SLOT)?.config.description))
      expect(note?.expires).toBeGreaterThanOrEqual(begun + CLAIM_SECONDS)
      expect(note?.expires).toBeLessThanOrEqual(ended + CLAIM_SECONDS)
    }
  })

  test('a live process of this machine does, although its claim has long expired; a dead one does not', async () => {
    const pve = new MemoryProxmox()
    const child = execa('sleep', ['60'], { reject: false })
    const started = (await readFile(`/proc/${child.pid}/stat`, 'utf8')).split(' ')[21] as string
    const owner = { ...(await thisOwner()), pid: child.pid as number, started }
    held(pve, { owner, expires: past() - 86_400 })
    await expect(claimImage(pve.client(), request())).rejects.toMatchObject({ code: 'busy' })
    child.kill('SIGSTOP')
    const error = await claimImage(pve.client(), request()).catch((error) => error)
    expect(error).toMatchObject({ code: 'busy' })
    expect(error.why).toMatch(/that process lives on this machine.* has not renewed it for 867\d\d s$/)
    expect(error.next).toContain(`kill -CONT ${child.pid}`)
    held(pve, { owner, expires: soon() + 86_400 })
    child.kill('SIGKILL')
    await child
    await using _claim = await claimImage(pve.client(), request())
    expect(runAt(pve)).toBe('mine')
  })

  test('this very process does, while the run has it; what one of its runs could not remove is free', async () => {
    const pve = new MemoryProxmox()
    const owner = await thisOwner()
    {
      await using _claim = await claimImage(pve.client(), request({ run: 'one', owner }))
      held(pve, { run: 'one', owner, expires: past() })
      await expect(claimImage(pve.client(), request({ run: 'two', owner }))).rejects.toMatchObject({
        code: 'busy',
      })
    }
    held(pve, { run: 'one', owner })
    await using _claim = await claimImage(pve.client(), request({ run: 'two', owner }))
    expect(runAt(pve)).toBe('two')
  })

  describe('where the server tells no time', () => {
    afterEach(() => {
      vi.restoreAllMocks()
    })

    test('shows in whether the claim changes, by the clock of whoever looks', async () => {
      const pve = new MemoryProxmox()
      pve.now = () => undefined
      const client = pve.client()
      held(pve, { expires: past() })
      expect(await isStaleNow(client)).toBe(false)
      let later = 0
      const monotonic = performance.now.bind(performance)
      vi.spyOn(performance, 'now').mockImplementation(() => monotonic() + later * 1000)
      later = CLAIM_SECONDS - 5
      expect(await isStaleNow(client)).toBe(false)
      held(pve, { expires: past() - 1 })
      later = CLAIM_SECONDS + 60
      expect(await isStaleNow(client)).toBe(false)
      later = 2 * CLAIM_SECONDS + 65
      expect(await isStaleNow(client)).toBe(true)
      await using _claim = await claimImage(client, request())
      expect(runAt(pve)).toBe('mine')
    })

    test('whoever does not wait is told so, and what to do', async () => {
      const pve = new MemoryProxmox()
      pve.now = () => undefined
      held(pve, { expires: past() })
      const error = await claimImage(pve.client(), request()).catch((error) => error)
      expect(error).toMatchObject({ code: 'busy' })
      expect(error.why).toContain('have no Date')
      expect(error.next).toBe('give --wait to wait for it, at most until its claim has not changed for 300 s')
    })

    test('a claim says no time either, and each renewal changes it', async () => {
      const pve = new MemoryProxmox()
      pve.now = () => undefined
      await using claim = await claimImage(pve.client(), request())
      const written = () => String(pve.guests.get(SLOT)?.config.description)
      const seen = new Set([written()])
      for (let n = 0; n < 3; n += 1) {
        await claim.confirm()
        seen.add(written())
      }
      expect(seen.size).toBe(4)
      expect(parseNote(SLOT, written())?.expires).toBeUndefined()
      expect(pve.tagsOf(SLOT).filter((tag) => tag.startsWith('ib-expires'))).toEqual([])
    })

    test('a claim without a time is judged so also by whom the server tells it', async () => {
      const pve = new MemoryProxmox()
      const client = pve.client()
      const note = parseNote(SLOT, String(held(pve).config.description)) as Note
      const { expires: _, ...timeless } = note
      pve.put(SLOT, {
        tags: toTags({ vmid: SLOT, namespace: 'homelab', image: 'web', state: 'claim' }),
        description: renderNote(timeless),
      })
      expect(await isStaleNow(client)).toBe(false)
      const monotonic = performance.now.bind(performance)
      vi.spyOn(performance, 'now').mockImplementation(() => monotonic() + (CLAIM_SECONDS + 1) * 1000)
      expect(await isStaleNow(client)).toBe(true)
    })
  })
})
