import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { stripVTControlCharacters } from 'node:util'
import { expect, test, vi } from 'vitest'
import { LeftBehind } from '../../src/cli/left-behind.ts'
import { selfSigned, startFake, TOKEN } from '../pve/server.ts'
import { cli } from './captured.ts'

test('what was left behind is told once, by its latest reason', () => {
  const left = new LeftBehind()
  expect(left.text()).toBe('')
  const leak = { type: 'leak', resource: 'VM 9001 on pve', next: 'run `imagebuild prune`' } as const
  left.sink({ type: 'info', message: 'not that' })
  left.sink({ ...leak, why: 'it was busy' })
  left.sink({ ...leak, why: 'it was away', image: 'web', node: 'b' })
  expect(stripVTControlCharacters(left.text())).toBe(
    'left behind:\n  VM 9001 on pve (web (b)): it was away\n  → run `imagebuild prune`\n',
  )
})

test('prune tells of a guest whose creation died when it meets it, and once more in the end', async () => {
  await using pve = await startFake(await selfSigned())
  const folder = await mkdtemp(join(tmpdir(), 'imagebuild-left-'))
  for (const [path, data] of Object.entries({
    '/cluster/resources': [],
    '/nodes/pve/qemu': [{ vmid: 9001, name: 'VM 9001', status: 'stopped', lock: 'create' }],
    '/nodes/pve/lxc': [],
    '/nodes/pve/tasks': [],
    '/nodes/pve/storage/local/content': [],
    '/access/permissions': { '/nodes/pve': { 'Sys.Audit': 1 } },
  }))
    pve.on(`GET ${path}`, { json: { data } })
  await writeFile(
    join(folder, 'imagebuild.yaml'),
    `namespace: home
targets:
  home: { kind: pve, endpoint: '${pve.endpoint}', fingerprint: '${pve.fingerprint}', node: pve, storages: { disks: local, images: local } }
`,
  )
  vi.stubEnv('PROXMOX_VE_API_TOKEN', TOKEN)
  vi.stubEnv('CI', '')
  try {
    const { code, stderr } = await cli('--config', folder, 'prune')
    expect(code).toBe(0)
    const line = 'on pve, as root: qm unlock 9001 && qm destroy 9001'
    expect(stderr.split(line)).toHaveLength(3)
    expect(stderr.slice(stderr.indexOf('left behind:\n'))).toContain(line)
    expect(stderr).not.toContain('nothing to remove')
  } finally {
    vi.unstubAllEnvs()
    await rm(folder, { recursive: true })
  }
})
