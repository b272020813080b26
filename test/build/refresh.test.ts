import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { decide } from '../../src/build/decide.ts'
import { removeLeftovers } from '../../src/build/leftovers.ts'
import { PACKAGES, recordsFolder, writeRecord } from '../../src/build/records.ts'
import { upgradeFirst } from '../../src/build/refresh.ts'
import { makePlan } from '../../src/plan/plan.ts'
import { formatPackageList } from '../../src/updates/package-list.ts'
import { imageSpec, WHERE } from '../plan/spec.ts'
import { MemoryProxmox, PLACE } from '../pve/memory-proxmox.ts'
import { putOurs } from '../pve/our-guest.ts'
import { aBuild, aClaim, FakeSession } from './world.ts'

const DIGEST = `sha256:${'ab'.repeat(32)}`
const OPTIONS = { force: false, noCache: false, onError: 'cleanup', verify: 'off' } as const

let root: string
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'imagebuild-refresh-'))
})
afterEach(() => rm(root, { recursive: true }))

/** A refresh for a version of openssl, in a project of its own. */
const refreshing = (pve: MemoryProxmox, wanted = '2') =>
  aBuild(
    {
      ...{ root, reportsDir: join(root, 'builds') },
      options: {
        ...OPTIONS,
        refresh: { mends: (_, packages) => packages.every(({ version }) => version >= wanted) },
      },
    },
    pve,
  )

/** A template that was built with this version of openssl, and its record, unless that is lost. */
async function put(
  pve: MemoryProxmox,
  vmid: number,
  state: 'current' | 'candidate',
  has: { version: string; isHere?: boolean },
) {
  const version = `20260101.${vmid}`
  const list = formatPackageList({
    ...{ image: 'web', distribution: { id: 'debian', version: '13', codename: 'trixie' } },
    ...{ architecture: 'amd64', sources: [] },
    packages: [...[{ name: 'openssl', version: has.version, architecture: 'amd64' }]].map((one) => ({
      ...one,
      source: 'openssl',
      sourceVersion: has.version,
    })),
  })
  const folder = recordsFolder(join(root, has.isHere === false ? 'elsewhere' : 'builds'), 'web', version)
  const sha256 = await writeRecord(folder, PACKAGES, list)
  putOurs(pve, vmid, state, { digest: DIGEST, version, note: { artifacts: { [PACKAGES]: sha256 } } })
}

describe('a refresh', () => {
  test('uses a waiting candidate only where its packages, by a list that is here, mend what is asked for', async () => {
    const pve = new MemoryProxmox()
    await put(pve, 9000, 'current', { version: '1' })
    await put(pve, 9001, 'candidate', { version: '1' })
    await put(pve, 9002, 'candidate', { version: '2', isHere: false })
    await put(pve, 9003, 'candidate', { version: '2' })
    const found = await removeLeftovers(refreshing(pve), aClaim(), DIGEST)
    expect(found.current).toBeUndefined()
    expect(found.candidate?.vmid).toBe(9003)
    expect([...pve.guests.keys()]).toEqual([9000, 9003])
  })

  test('keeps what another run has made current meanwhile', async () => {
    const pve = new MemoryProxmox()
    await put(pve, 9000, 'current', { version: '2' })
    expect((await removeLeftovers(refreshing(pve), aClaim(), DIGEST)).current?.vmid).toBe(9000)
    expect((await removeLeftovers(refreshing(pve, '3'), aClaim(), DIGEST)).current).toBeUndefined()
  })

  test('is not done already where the digest is the same; what is held stays', async () => {
    const pve = new MemoryProxmox()
    const checksum = { algorithm: 'sha256', value: 'ab'.repeat(32) } as const
    const source = { kind: 'url', url: 'https://x/y', checksum, format: 'qcow2' } as const
    const image = imageSpec({ source: { ...source, architecture: 'amd64', where: WHERE } })
    const { digest } = makePlan(image, {
      sourceIdentity: `sha256:${checksum.value}`,
      ssh: PLACE.ssh,
    })
    putOurs(pve, 9000, 'current', { digest })
    const ready = async (options: typeof OPTIONS) => (await decide(aBuild({ image, options }, pve))).ready
    const { options } = refreshing(pve)
    expect((await ready(OPTIONS))?.template.vmid).toBe(9000)
    expect(await ready(options as typeof OPTIONS)).toBeUndefined()
    putOurs(pve, 9000, 'current', { digest, held: true })
    expect((await ready(options as typeof OPTIONS))?.template.vmid).toBe(9000)
  })
})

describe('the upgrade of all packages', () => {
  const upgraded = async (answer: FakeSession['answer'], options: Partial<typeof OPTIONS> = {}) => {
    const session = new FakeSession(answer)
    const build = aBuild({ options: { ...OPTIONS, refresh: { mends: () => false }, ...options } })
    const work = upgradeFirst(build, { ...build, image: 'web', session })
    return { work, session, build }
  }

  test('is the first step in the guest, seen as such', async () => {
    const { work, session, build } = await upgraded(() => ({}))
    await work
    expect(session.ran.at(-1)?.command).toContain('full-upgrade')
    expect(session.ran.at(-1)?.options.sudo).toBe(true)
    expect(build.events.map((event) => ('label' in event ? event.label : ''))).toContain(
      'upgrading all packages',
    )
  })

  test('is told like another layer where apt-get fails', async () => {
    const { work } = await upgraded(({ command }) =>
      command.includes('full-upgrade') ? { code: 100, stderr: 'E: no mirror' } : {},
    )
    await expect(work).rejects.toMatchObject({
      code: 'build_failed',
      what: 'layer “upgrade of all packages” failed',
      why: 'apt-get ended with exit code 100',
      output: ['E: no mirror'],
    })
  })

  test('is left out where there is no apt-get, and in builds that are no refresh', async () => {
    const without = await upgraded(({ command }) => ({ code: command.includes('full-upgrade') ? 100 : 1 }))
    await without.work
    const build = aBuild({ options: OPTIONS })
    const session = new FakeSession()
    await upgradeFirst(build, { ...build, image: 'web', session })
    expect(session.ran).toEqual([])
  })
})
