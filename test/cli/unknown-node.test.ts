import { join } from 'node:path'
import { afterEach, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest'
import { projectOnDisk } from '../definition/project-on-disk.ts'
import { type Fake, type Identity, selfSigned, startFake, TOKEN } from '../pve/server.ts'
import { cli } from './captured.ts'

/** A target that names a node which does not exist: what a person is told, before anything is asked of that node. */
let identity: Identity
let pve: Fake

beforeAll(async () => {
  identity = await selfSigned()
})
beforeEach(async () => {
  for (const name of Object.keys(process.env)) if (name.startsWith('IMAGEBUILD_')) vi.stubEnv(name, undefined)
  vi.stubEnv('CI', '')
  vi.stubEnv('PROXMOX_VE_API_TOKEN', TOKEN)
  pve = await startFake(identity)
  pve.on('GET /cluster/resources', { json: { data: [] } })
  // As Proxmox shows it to whoever may audit nothing: names, and no figures.
  pve.on('GET /nodes', { json: { data: ['pve2', 'pve1'].map((node) => ({ node, type: 'node' })) } })
  for (const node of ['pve1', 'pve2'])
    for (const kind of ['qemu', 'lxc']) pve.on(`GET /nodes/${node}/${kind}`, { json: { data: [] } })
  const lookup = "hostname lookup 'pvx1' failed - failed to get address info for: pvx1: Name not known"
  pve.on('GET /nodes/pvx1/version', {
    status: 500,
    reason: lookup,
    json: { data: null, message: `${lookup}\n` },
  })
})
afterEach(async () => {
  vi.unstubAllEnvs()
  await pve[Symbol.asyncDispose]()
})

async function command(nodes: string, ...args: string[]) {
  await using project = await projectOnDisk({
    'imagebuild.yaml': `
namespace: homelab
targets:
  home:
    kind: pve
    endpoint: ${pve.endpoint}
    fingerprint: ${pve.fingerprint}
    ${nodes}
    storages: { disks: local-lvm, images: local }
`,
    'images/web/image.yaml': 'name: web\nsource: { release: debian/12 }\n',
  })
  return await cli('--config', join(project.root, 'imagebuild.yaml'), ...args)
}

const asked = () => pve.seen.map(({ method, path }) => `${method} ${path}`)

describe('a node of the target that does not exist', () => {
  test.each([
    [['run', 'web']],
    [['plan', 'web']],
    [['list']],
    [['history', 'web']],
    [['outputs']],
    [['promote', 'web@previous']],
    [['rollback', 'web']],
    [['prune']],
    [['show', 'web', '--verify']],
    [['diff', 'web']],
    [['resolve', 'web']],
  ])('%s says which, and which there are', async (args) => {
    const { code, stdout, stderr } = await command('node: pvx1', ...args)
    expect(code).toBe(65)
    expect(stdout.replace(/^web {2}failed.*\n$/, '')).toBe('')
    expect(stderr).toContain('there is no node pvx1 for target home')
    expect(stderr).toContain(`the nodes at ${pve.endpoint} are pve1, pve2`)
    expect(stderr).toContain('did you mean `pve1`? correct `node` or `nodes` of target home')
    expect(asked().filter((one) => one.includes('/nodes/pvx1'))).toEqual(['GET /nodes/pvx1/version'])
    expect(asked().filter((one) => !one.startsWith('GET '))).toEqual([])
  })

  test('is told among several, with what it was probably meant to be', async () => {
    const { code, stderr } = await command('nodes: [pve1, pvx1, frankfurt]', 'list')
    expect(code).toBe(65)
    expect(stderr).toContain('there are no nodes pvx1, frankfurt for target home')
    expect(stderr).toContain('did you mean `pve1` for pvx1?')
  })

  test('nothing is guessed where no name is close', async () => {
    const { stderr } = await command('node: frankfurt', 'list')
    expect(stderr).toContain('there is no node frankfurt for target home')
    expect(stderr).not.toContain('did you mean')
  })
})

test('a node that the list lacks and that answers is there', async () => {
  pve.on('GET /nodes', { json: { data: [{ node: 'pve2' }] } })
  pve.on('GET /nodes/pve1/version', { json: { data: { version: '9.2.11' } } })
  const stderr = expect.stringContaining('home: Proxmox VE 8.4.21\n')
  expect(await command('node: pve1', 'list')).toMatchObject({ code: 0, stderr })
})

test('where Proxmox does not say which nodes there are, nothing is refused', async () => {
  pve.on('GET /nodes', { status: 403, reason: 'Permission check failed' })
  expect(await command('node: pve1', 'list')).toMatchObject({ code: 0 })
})

describe('a node that the command line names', () => {
  test.each([[['resolve', 'web', '--node', 'pvx1']], [['diff', 'web', '--node', 'pvx1']]])(
    '%s: there is none, and these are there',
    async (args) => {
      const { code, stdout, stderr } = await command('node: pve1', ...args)
      expect([code, stdout]).toEqual([1, ''])
      expect(stderr).toContain('there is no node pvx1')
      expect(stderr).toContain('did you mean `pve1`? give --node one of them')
    },
  )
})
