import { createHash } from 'node:crypto'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { REDACTED } from '../../src/core/secrets.ts'
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
/** What a check has found may hold what steers a terminal, and the secret that it was made with. */
const REPORT = { schema: 1, results: [{ found: 'a\x9b2J "b"' }, { found: `say "${TOKEN}"` }] }
const TEXT = `${JSON.stringify(REPORT)}\n`

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
    [`.imagebuild/builds/home/web/${VERSION}/${folder}verify.json`]: TEXT,
  })
  const own = { vmid: 9001, namespace: 'home', image: 'web', version: VERSION }
  const row = { vmid: 9001, name: 'web', template: 1, tags: toTags({ ...own, state: 'current' }) }
  const sha256 = createHash('sha256').update(TEXT).digest('hex')
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
  const { code, stdout, stderr } = await cli('--config', config, 'show', 'web', '--verify', '--json')
  expect([code, stderr]).toEqual([0, ''])
  expect(stdout).not.toMatch(/[^\P{Cc}\n]/u)
  const [plain] = REPORT.results
  expect(JSON.parse(stdout)).toEqual({ schema: 1, results: [plain, { found: `say "${REDACTED}"` }] })
})
