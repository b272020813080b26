import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { isProven } from '../../src/build/prove.ts'
import { waysIn } from '../../src/build/ways-in.ts'
import { digestOfChecks } from '../../src/plan/plan.ts'
import type { Note, VerifySummary } from '../../src/pve/marks.ts'
import { createAuthority, ensureAuthority } from '../../src/ssh/ca/authority.ts'
import { lxcSpec } from '../plan/spec.ts'
import { aBuild } from './world.ts'

let folder: string
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'imagebuild-prove-'))
})
afterAll(() => rm(folder, { recursive: true, force: true }))

const CHECKS = [
  { id: '1', title: 'a file', sources: [], kind: 'file', path: '/etc/x', present: true } as const,
]

function noteOf(change: Partial<VerifySummary>): Note {
  const counts = { passed: 3, failed: 0, skipped: 0, left: 0 }
  const checks = digestOfChecks(CHECKS)
  const verify = {
    at: '',
    ...counts,
    certificates: 'not verified',
    inside: 'not verified',
    checks,
    ...change,
  }
  return { schema: 1, vmid: 1, namespace: '', image: '', kind: 'lxc', tool: '', run: '', verify }
}

function building(signer?: string) {
  const build = aBuild({ image: lxcSpec() })
  return { ...build, place: { ...build.place, ssh: { authorities: [], ...(signer && { signer }) } } }
}

test('one that was seen from outside is examined again once somebody can sign, and then not for ever', async () => {
  const path = join(folder, 'ca')
  const { userCa } = await ensureAuthority(path)
  const plan = { checks: CHECKS, certificates: { authorities: userCa, principals: {} } }
  expect(await isProven(building(), noteOf({}), plan)).toBe(true)
  const build = building(path)
  expect(await isProven(build, noteOf({}), plan)).toBe(false)
  const { tried } = await waysIn(build, plan.certificates)
  expect(await isProven(build, noteOf({ tried: tried as string }), plan)).toBe(true)
  expect(await isProven(build, noteOf({ inside: 'verified' }), plan)).toBe(true)
})

test('what failed, and what was asked otherwise, is not proven; nobody is warned while deciding', async () => {
  const path = join(folder, 'locked')
  const { userCa } = await createAuthority({ folder: path, passphrase: 'correct horse' })
  const plan = { checks: CHECKS, certificates: { authorities: userCa, principals: {} } }
  const build = building(path)
  expect(await isProven(build, noteOf({}), plan)).toBe(true)
  expect(await isProven(build, noteOf({ failed: 1 }), plan)).toBe(false)
  expect(await isProven(build, noteOf({}), { ...plan, checks: [] })).toBe(false)
  expect(await isProven(build, undefined, plan)).toBe(false)
  expect(build.events).toEqual([])
})
