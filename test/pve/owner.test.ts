import { readFile } from 'node:fs/promises'
import { execa } from 'execa'
import { describe, expect, test } from 'vitest'
import { hasEnded, thisOwner } from '../../src/pve/owner.ts'

describe('the owner of a claim', () => {
  test('is this process, which lives', async () => {
    const owner = await thisOwner()
    expect(owner.pid).toBe(process.pid)
    expect(owner.started).toMatch(/^\d+$/)
    expect(owner.boot).toMatch(/^[0-9a-f-]{36}$/)
    expect(await hasEnded(owner)).toBe(false)
  })

  test('is told apart from its end', async () => {
    const child = execa('sleep', ['30'], { reject: false })
    const stat = await readFile(`/proc/${child.pid}/stat`, 'utf8')
    const owner = { ...(await thisOwner()), pid: child.pid as number, started: String(stat.split(' ')[21]) }
    expect(await hasEnded(owner)).toBe(false)
    child.kill('SIGKILL')
    await child
    expect(await hasEnded(owner)).toBe(true)
  })

  test('has ended when its number belongs to a later process', async () => {
    expect(await hasEnded({ ...(await thisOwner()), started: '1' })).toBe(true)
  })

  test('has ended when the machine was booted since', async () => {
    expect(await hasEnded({ ...(await thisOwner()), machine: 'x', boot: 'another' })).toBeUndefined()
    const here = await thisOwner()
    if (here.machine !== '') expect(await hasEnded({ ...here, boot: 'another' })).toBe(true)
  })

  test('on another machine: nobody knows', async () => {
    const here = await thisOwner()
    const elsewhere = { ...here, host: 'elsewhere.example', machine: 'another', boot: 'another' }
    expect(await hasEnded(elsewhere)).toBeUndefined()
    expect(await hasEnded({ ...here, boot: '' })).toBeUndefined()
  })

  test('on another machine of the same name: nobody knows either', async () => {
    const { machine: _, ...unknown } = await thisOwner()
    expect(await hasEnded({ ...unknown, boot: 'another' })).toBeUndefined()
    expect(await hasEnded({ ...unknown, machine: 'another', boot: 'another' })).toBeUndefined()
    expect(await hasEnded({ ...unknown, machine: '', boot: 'another' })).toBeUndefined()
  })

  test('in another container of this machine: its process ids are not ours to read', async () => {
    expect(await hasEnded({ ...(await thisOwner()), pids: 'pid:[1]', started: '1' })).toBeUndefined()
  })
})
