import { createHash } from 'node:crypto'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { type Note, renderNote, toTags } from '../../src/pve/marks.ts'
import { projectOnDisk } from '../definition/project-on-disk.ts'
import { selfSigned, startFake, TOKEN } from '../pve/server.ts'
import { cli } from './captured.ts'

beforeEach(() => {
  for (const name of Object.keys(process.env))
    if (name.startsWith('IMAGEBUILD_') || name === 'CI') vi.stubEnv(name, undefined)
  vi.stubEnv('PROXMOX_VE_API_TOKEN', TOKEN)
})
afterEach(() => {
  vi.unstubAllEnvs()
})

const VERSION = '20260101.1'
const REPORT = '{"schema":1}\n'

/** The template is on the second node of the target alone; its report lies where a build wrote it. */
test.each([
  ['of the second node', 'b/'],
  ['of the first one, which that node was then', ''],
])('the report is found among the records %s', async (_where, folder) => {
  await using pve = await startFake(await selfSigned())
  await using project = await projectOnDisk({
    'imagebuild.yaml': `namespace: home
targets:
  home:
    kind: pve
    endpoint: ${pve.endpoint}
    fingerprint: ${pve.fingerprint}
    nodes: [a, b]
    storages: { disks: local, images: local }
`,
    'images/web/image.yaml': 'name: web\nsource: { release: debian/12 }\n',
    [`.imagebuild/builds/home/web/${VERSION}/${folder}verify.json`]: REPORT,
  })
  const own = { vmid: 9001, namespace: 'home', image: 'web', version: VERSION }
  const row = { vmid: 9001, name: 'web', template: 1, tags: toTags({ ...own, state: 'current' }) }
  const sha256 = createHash('sha256').update(REPORT).digest('hex')
  const note: Note = {
    ...{ schema: 1, ...own, kind: 'vm', tool: '0', run: 'r', artifacts: { 'verify.json': sha256 } },
    verify: {
      ...{ at: '2026-01-01T00:00:00.000Z', passed: 1, failed: 0, skipped: 0, left: 0, checks: 'c' },
      ...{ certificates: 'not configured', inside: 'verified' },
    },
  }
  const none = { json: { data: [] } }
  for (const path of ['a/qemu', 'a/lxc', 'b/lxc']) pve.on(`GET /nodes/${path}`, none)
  pve.on('GET /nodes/b/qemu', { json: { data: [row] } })
  pve.on('GET /nodes/b/qemu/9001/config', { json: { data: { ...row, description: renderNote(note) } } })
  const config = join(project.root, 'imagebuild.yaml')
  expect(await cli('--config', config, 'show', 'web', '--verify', '--json')).toEqual({
    ...{ code: 0, stdout: REPORT, stderr: '' },
  })
})
