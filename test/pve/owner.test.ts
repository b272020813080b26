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
    expect(await hasEnded({ ...(await thisOwner()), boot: 'another' })).toBe(true)
  })

  test('on another machine: nobody knows', async () => {
    expect(await hasEnded({ ...(await thisOwner()), host: 'elsewhere.example' })).toBeUndefined()
    expect(await hasEnded({ ...(await thisOwner()), boot: '' })).toBeUndefined()
  })
})
