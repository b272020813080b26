import { join } from 'node:path'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { packageListOf } from '../../src/build/inventory/package-list.ts'
import { MANIFEST, PACKAGES, sha256Of } from '../../src/build/records.ts'
import { type Note, renderNote, toTags } from '../../src/pve/marks.ts'
import { formatPackageList } from '../../src/updates/package-list.ts'
import { aManifest, aPackage } from '../build/inventory/manifests.ts'
import { projectOnDisk } from '../definition/project-on-disk.ts'
import { selfSigned, startFake, TOKEN } from '../pve/server.ts'
import { cli } from './captured.ts'

/** `diff` where not all records are here: in a fresh clone of the project. */
beforeEach(() => {
  for (const name of Object.keys(process.env))
    if (name.startsWith('IMAGEBUILD_') || name === 'CI') vi.stubEnv(name, undefined)
  vi.stubEnv('PROXMOX_VE_API_TOKEN', TOKEN)
})
afterEach(() => {
  vi.unstubAllEnvs()
})

const [V1, V2] = ['20260101.1', '20260102.1'] as const
const BUILT = '2026-01-03T00:00:00.000Z'

/** What a build of this version leaves. */
function records(version: string, packages: ReturnType<typeof aPackage>[] | null) {
  const manifest = aManifest({ version, packages })
  const text = `${JSON.stringify(manifest)}\n`
  const list = formatPackageList(packageListOf(manifest, 'amd64'))
  return { text, list, artifacts: { [MANIFEST]: sha256Of(text), [PACKAGES]: sha256Of(list) } }
}
const OLD = records(V1, [aPackage('apt', '3.0.1'), aPackage('gone', '1')])
const NEW = records(V2, [aPackage('apt', '3.0.2'), aPackage('left', '1', { status: 'config-files' })])
const BUILDS = '.imagebuild/builds/home/web'
const LIST = 'imagebuild.packages/home/web.txt'

async function diff(files: Record<string, string>, args: string[] = [], [old, now] = [OLD, NEW]) {
  await using pve = await startFake(await selfSigned())
  await using project = await projectOnDisk({
    'imagebuild.yaml': `namespace: home
targets:
  home:
    kind: pve
    endpoint: ${pve.endpoint}
    fingerprint: ${pve.fingerprint}
    node: a
    storages: { disks: local, images: local }
`,
    ...files,
  })
  const rows = (['previous', 'current'] as const).map((state, index) => {
    const own = { vmid: 9000 + index, namespace: 'home', image: 'web', version: [V1, V2][index] as string }
    const row = { vmid: own.vmid, name: `web-${own.version}`, template: 1, tags: toTags({ ...own, state }) }
    const { artifacts } = [old, now][index] as typeof OLD
    const note: Note = { ...{ schema: 1, ...own, kind: 'vm', tool: '0', run: 'r' }, built: BUILT, artifacts }
    const config = { json: { data: { ...row, description: renderNote(note) } } }
    pve.on(`GET /nodes/a/qemu/${own.vmid}/config`, config)
    return row
  })
  pve.on('GET /nodes/a/lxc', { json: { data: [] } })
  pve.on('GET /nodes/a/qemu', { json: { data: rows } })
  const answer = await cli('--config', join(project.root, 'imagebuild.yaml'), 'diff', 'web', ...args)
  return { ...answer, stderr: answer.stderr.replaceAll(project.root, '') }
}

const here = { [`${BUILDS}/${V1}/manifest.json`]: OLD.text }

test('packages are compared by the list that was committed, and all else is said not to be here', async () => {
  expect(await diff({ ...here, [LIST]: NEW.list }, ['--exit-code'])).toEqual({
    code: 1,
    stdout: `web ${V1} → ${V2} on home

packages: 1 removed, 1 upgraded
  - gone  1
  ↑ apt   3.0.1 → 3.0.2

not compared: everything else
  ${V2}: record not here, sha256 ${NEW.artifacts[MANIFEST]}
`,
    stderr: '',
  })
})

test('the same for programs', async () => {
  const { stdout } = await diff({ [`${BUILDS}/${V1}/packages.txt`]: OLD.list, [LIST]: NEW.list }, ['--json'])
  expect(JSON.parse(stdout)).toMatchObject({
    before: { version: V1, vmid: 9000, node: 'a', built: BUILT },
    packages: { removed: [{ name: 'gone', version: '1' }], upgraded: [{ name: 'apt' }] },
    ...{ apt: [], files: [], size: null },
    unknown: expect.arrayContaining(['apt sources', 'size', 'files of layers']),
    notHere: [
      { version: V1, sha256: OLD.artifacts[MANIFEST] },
      { version: V2, sha256: NEW.artifacts[MANIFEST] },
    ],
  })
})

test('with both manifests nothing is missing', async () => {
  const { stdout } = await diff({ ...here, [`${BUILDS}/${V2}/manifest.json`]: NEW.text }, ['--json'])
  expect(JSON.parse(stdout)).toMatchObject({ notHere: [], unknown: ['files of layers'] })
})

test('packages that are the same are not all', async () => {
  const same = records(V2, [aPackage('apt', '3.0.1'), aPackage('gone', '1')])
  const { code, stdout } = await diff({ ...here, [LIST]: same.list }, ['--exit-code'], [OLD, same])
  expect(stdout).toContain(`no package differs\n\nnot compared: everything else\n  ${V2}: record not here`)
  expect(code).toBe(1)
})

test('a system without dpkg has no packages that could be compared', async () => {
  const none = records(V2, null)
  const { stdout } = await diff({ ...here, [LIST]: none.list }, [], [OLD, none])
  expect(stdout).toContain(`home\n\nnot compared: packages and everything else\n  ${V2}: record not here`)
})

test('a list of which a byte was changed is none', async () => {
  const { code, stdout, stderr } = await diff({ ...here, [LIST]: NEW.list.replace('3.0.2', '3.0.1') })
  expect([code, stdout]).toEqual([1, ''])
  expect(stderr).toContain(`report not here, sha256 ${NEW.artifacts[MANIFEST]}`)
  expect(stderr).toContain(`${LIST}\` shows what was committed`)
})
