import { afterAll, beforeAll, expect, test } from 'vitest'
import type { CiResult } from '../../src/cli/ci-result.ts'
import { readConfig } from '../../src/pve/guest-ref.ts'
import { parseNote } from '../../src/pve/marks.ts'
import { labClient, makeProject, type Project } from './harness.ts'

/**
 * A rebuild of what has not changed, with a real Debian: a release whose servers are out of reach here and a child of it, both
 * too old a second after they were built.
 */

const image = (name: string, source: string) => `name: ${name}
kind: lxc
source: ${source}
hardware: { memory: 512, rootfs: 4G }
hardening: none
template: { archive: true, maxAge: 1s }
`

let project: Project
beforeAll(async () => {
  project = await makeProject({
    'images/aged/image.yaml': image('aged', '{ release: debian/13, fallback: bootstrap }'),
    'images/aged-child/image.yaml': image('aged-child', '{ image: aged }'),
    'imagebuild.yaml':
      'namespace: e2e\ntarget: lab\ntargets:\n  lab: { kind: lab }\nci: { security: off, updates: false }\n',
  })
})
afterAll(async () => {
  await project[Symbol.asyncDispose]()
})

async function noteOf(vmid: number) {
  await using pve = await labClient()
  const { description } = await readConfig(pve, { kind: 'lxc', node: 'lab', vmid })
  return parseNote(vmid, description)
}

test('a release that had fallen back, and its child, are built from a system of today', async () => {
  const first = await project.imagebuild(['run', '--all'])
  expect(first.exitCode, first.stderr).toBe(0)
  const { exitCode, stdout, stderr } = await project.imagebuild(['ci', 'run', '--json'], {
    env: { IMAGEBUILD_VERIFY: 'full' },
  })
  expect(exitCode, stderr).toBe(0)
  const [aged, child] = (JSON.parse(stdout) as CiResult).images
  expect([aged, child]).toMatchObject([
    { image: 'aged', outcome: 'built', reasons: expect.arrayContaining([expect.stringMatching(/^age: /)]) },
    { image: 'aged-child', outcome: 'built' },
  ])
  expect(child?.reasons).toContain('parent: its parent aged is built anew first')
  // Upstream is looked at again, and the system in the cache is left alone.
  expect(stderr).toContain('debian/13 still cannot be reached')
  expect(stderr).toContain('installing essential packages')
  expect(stderr.match(/upgrading all packages: done/g)).toHaveLength(2)

  const [parentNote, childNote] = await Promise.all(
    [aged, child].map((one) => noteOf(Object.values(one?.after?.vmids ?? {})[0] ?? 0)),
  )
  expect(parentNote).toMatchObject({ refreshed: true, source: { fallback: true } })
  expect(childNote).toMatchObject({ refreshed: true, source: { version: aged?.after?.version } })
})
