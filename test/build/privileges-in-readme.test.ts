import { readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { privilegesNeeded, swapPrivileges, verifyPrivileges } from '../../src/build/privileges.ts'
import type { ImageSpec } from '../../src/definition/spec.ts'
import { seeConsole } from '../../src/pve/console.ts'
import { seeTasks } from '../../src/pve/locked-guest.ts'
import type { Need } from '../../src/pve/permissions.ts'
import type { Place } from '../../src/pve/place.ts'
import { imageSpec, lxcSpec } from '../plan/spec.ts'
import { PLACE } from '../pve/memory-proxmox.ts'

// What README.md tells people to grant is what the code asks for: no privilege less, and none more.

const README = readFileSync(new URL('../../README.md', import.meta.url), 'utf8')
const NINE = { major: 9, minor: 2, text: '9.2.11' }
const EIGHT = { major: 8, minor: 4, text: '8.4.21' }
const VERSIONS = [NINE, EIGHT]

/** Of several that will do, the first: that is what the `pveum` lines grant. */
const names = (needs: readonly Need[]) =>
  [...new Set(needs.flatMap(({ privileges }) => privileges.map((one) => [one].flat()[0] ?? '')))].sort()

const role = (image: ImageSpec, version = NINE, place: Place = PLACE) =>
  names([...privilegesNeeded(image, place, version), ...verifyPrivileges(image, place, version)])

const beside = (image: ImageSpec, known: readonly string[], version = NINE, place: Place = PLACE) =>
  role(image, version, place).filter((name) => !known.includes(name))

/** The row of a table that begins so. */
function row(label: string): string[] {
  const line = README.split('\n').find((one) => one.trimStart().startsWith(`| ${label}`))
  expect(line, label).toBeDefined()
  return (/\| `([^`]+)` \|$/.exec(line ?? '')?.[1] ?? '').split(' ').sort()
}

describe('the role in README.md', () => {
  test('of the command to begin with is for virtual machines on Proxmox VE 9', () => {
    const line = /pveum role add Imagebuild --privs "([^"]+)"/.exec(README)?.[1]
    expect(line?.split(' ').sort()).toEqual(role(imageSpec()))
  })

  test('for virtual machines on Proxmox VE 8', () => {
    expect(row('virtual machines on Proxmox VE 8')).toEqual(role(imageSpec(), EIGHT))
  })

  test('for containers on both', () => {
    for (const version of VERSIONS)
      expect(row('containers on Proxmox VE 9 and 8')).toEqual(role(lxcSpec(), version))
  })

  test('holds Datastore.Audit for nobody: AllocateSpace covers it', () => {
    expect(README).not.toContain('Datastore.Audit')
    for (const image of [imageSpec(), lxcSpec()]) expect(role(image)).not.toContain('Datastore.Audit')
  })
})

test('what verifying needs alone', () => {
  expect(row('verifying clones of virtual machines')).toEqual(
    names(verifyPrivileges(imageSpec(), PLACE, NINE)),
  )
  expect(row('verifying clones of containers')).toEqual(names(verifyPrivileges(lxcSpec(), PLACE, NINE)))
})

describe('what is needed beside the role', () => {
  const container = role(lxcSpec())

  test('an archive of a container that is kept', () => {
    const image = lxcSpec({ template: { tags: [], archive: true, keep: 3 } })
    expect(row('containers with `template.archive`')).toEqual(beside(image, container))
  })

  test('a privileged container', () => {
    const image = lxcSpec({ unprivileged: false })
    expect(row('containers with `unprivileged: false` on Proxmox VE 9')).toEqual(beside(image, container))
    expect(beside(image, container, EIGHT)).toEqual([])
  })

  test('a pool', () => {
    const place = { ...PLACE, pool: 'images' }
    for (const image of [imageSpec(), lxcSpec()])
      expect(row('a target with a `pool`')).toEqual(beside(image, role(image), NINE, place))
  })

  test('tags of a new guest are checked before it is in the pool, but for machines on Proxmox VE 8', () => {
    const place = { ...PLACE, pool: 'images' }
    const options = (image: ImageSpec, version: typeof NINE) =>
      privilegesNeeded(image, place, version)
        .filter(({ privileges }) => privileges.includes('VM.Config.Options'))
        .map(({ path }) => path)
    for (const image of [imageSpec(), lxcSpec()]) expect(options(image, NINE)).toEqual(['/vms'])
    expect(options(lxcSpec(), EIGHT)).toEqual(['/vms'])
    expect(options(imageSpec(), EIGHT)).toEqual([['/vms', '/pool/images']])
    expect(README).toContain('`VM.Config.Options` on `/vms`')
  })

  test('seeing the tasks of others on the node', () => {
    const label =
      'seeing which task of another user is creating a guest that is in the way (on `/nodes/<node>`,'
    expect(row(label)).toEqual(names([seeTasks('<node>')]))
    expect(seeTasks('<node>').path).toBe('/nodes/<node>')
  })

  test('the console of a guest that imagebuild cannot log in to', () => {
    const label = "the console's last lines in the error where imagebuild cannot log in to a guest"
    expect(row(label)).toEqual(names([seeConsole('<vmid>')]))
    expect(seeConsole('<vmid>').path).toBe('/vms/<vmid>')
    for (const version of VERSIONS)
      for (const image of [imageSpec(), lxcSpec()]) expect(role(image, version)).not.toContain('VM.Console')
  })

  test('nothing: a fixed VMID, several nodes, an address pool, a parent image', () => {
    const place: Place = {
      ...PLACE,
      node: 'other',
      addresses: { first: '192.0.2.10', last: '192.0.2.19', prefix: 24, gateway: '192.0.2.1' },
    }
    for (const version of VERSIONS) {
      for (const image of [imageSpec(), lxcSpec()]) {
        const known = role(image, version)
        expect(names(swapPrivileges(PLACE)).filter((name) => !known.includes(name))).toEqual([])
        expect(beside(image, known, version, place)).toEqual([])
        const { architecture, where } = image.source
        const source = { kind: 'image', image: 'base', architecture, where } as const
        expect(beside({ ...image, source }, known, version)).toEqual([])
      }
    }
  })
})
