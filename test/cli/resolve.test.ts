import { spawn } from 'node:child_process'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { afterEach, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest'
import { renderNote, toTags } from '../../src/pve/marks.ts'
import { type Fake, type Identity, selfSigned, startFake, TOKEN } from '../pve/server.ts'
import { cli } from './captured.ts'

/** What `resolve` asks of a Proxmox, counted on the wire. */
let identity: Identity
let pve: Fake
let folder: string

const DIGEST = `sha256:${'ab'.repeat(32)}`
const template = (vmid: number, state: 'current' | 'previous', version: string, node = 'pve') => ({
  ...{ vmid, node, type: 'qemu', id: `qemu/${vmid}`, name: `web-${version}`, template: 1 },
  tags: toTags({ vmid, namespace: 'home', image: 'web', state, version, digest: DIGEST }),
})
const ROWS = [
  { vmid: 100, node: 'pve', type: 'qemu', id: 'qemu/100', name: 'mine', template: 0, tags: 'web' },
  template(9000, 'previous', '20260101.1'),
  template(9001, 'current', '20260101.2'),
  // A user's clone of it, made a template: it carries our tags, and is not ours.
  { ...template(9001, 'current', '20260101.2'), vmid: 9002 },
]

beforeAll(async () => {
  identity = await selfSigned()
})

beforeEach(async () => {
  pve = await startFake(identity)
  pve.on('GET /cluster/resources', { json: { data: ROWS } })
  folder = await mkdtemp(join(tmpdir(), 'imagebuild-resolve-'))
  await writeFile(
    join(folder, 'imagebuild.yaml'),
    `namespace: home
targets:
  home:
    kind: pve
    endpoint: ${pve.endpoint}
    fingerprint: ${pve.fingerprint}
    node: pve
    storages: { disks: local, images: local }
  lab: { kind: lab }
target: home
`,
  )
  vi.stubEnv('IMAGEBUILD_CONFIG', folder)
  vi.stubEnv('PROXMOX_VE_API_TOKEN', TOKEN)
  vi.stubEnv('CI', '')
})

afterEach(async () => {
  vi.unstubAllEnvs()
  vi.restoreAllMocks()
  await pve[Symbol.asyncDispose]()
  await rm(folder, { recursive: true })
})

const asked = () => pve.seen.map(({ method, rawUrl }) => `${method} ${rawUrl}`)
const ONE = ['GET /api2/json/cluster/resources?type=vm']

describe('resolve', () => {
  test.each([
    ['web', '9001'],
    ['web@current', '9001'],
    ['web@previous', '9000'],
    ['web@20260101.1', '9000'],
  ])('%s is one request', async (name, vmid) => {
    expect(await cli('resolve', name)).toEqual({ code: 0, stdout: `${vmid}\n`, stderr: '' })
    expect(asked()).toEqual(ONE)
  })

  test('what the cluster’s list does not have, the node may know already', async () => {
    pve.on('GET /cluster/resources', { json: { data: ROWS.slice(0, 1) } })
    pve.on('GET /nodes/pve/qemu', { json: { data: ROWS } })
    pve.on('GET /nodes/pve/lxc', { json: { data: [] } })
    expect(await cli('resolve', 'web')).toMatchObject({ code: 0, stdout: '9001\n' })
  })

  describe('what bears a finished template’s tags, and is not called one in the cluster’s list', () => {
    const fresh = { ...template(9003, 'current', '20260101.3'), name: 'VM 9003', template: undefined }
    const older = ROWS.map((row) => ({ ...row, tags: row.tags.replace('ib-current', 'ib-previous') }))
    const others = ROWS.slice(0, 2)
    beforeEach(() => pve.on('GET /nodes/pve/lxc', { json: { data: [] } }))

    test('became one a moment ago: its node knows', async () => {
      pve.on('GET /cluster/resources', { json: { data: [...older, fresh] } })
      pve.on('GET /nodes/pve/qemu', { json: { data: [...older, { ...fresh, template: 1 }] } })
      expect(await cli('resolve', 'web')).toMatchObject({ code: 0, stdout: '9003\n' })
    })

    test('somebody has made it an ordinary guest', async () => {
      const running = { ...template(9003, 'current', '20260101.3'), template: 0, status: 'running' }
      pve.on('GET /cluster/resources', { json: { data: [...ROWS, running] } })
      pve.on('GET /nodes/pve/qemu', { json: { data: [...ROWS, running] } })
      expect(await cli('resolve', 'web')).toMatchObject({ code: 0, stdout: '9001\n' })
    })

    test('its node is down: what another node has counts', async () => {
      const file = join(folder, 'imagebuild.yaml')
      const text = await readFile(file, 'utf8')
      await writeFile(file, text.replace('node: pve', 'nodes: [dead, pve]'))
      const found = template(9010, 'current', '20260101.3', 'dead')
      const unknown = { ...found, template: undefined, status: 'unknown' }
      pve.on('GET /cluster/resources', { json: { data: [...ROWS, unknown] } })
      pve.on('GET /nodes/pve/qemu', { json: { data: ROWS } })
      for (const kind of ['qemu', 'lxc'])
        pve.on(`GET /nodes/dead/${kind}`, { status: 595, reason: 'No route to host' })
      expect(await cli('resolve', 'web')).toMatchObject({ code: 0, stdout: '9001\n' })
    })

    test('a guest that is being built never counts', async () => {
      const marks = { vmid: 9004, namespace: 'home', image: 'web', version: '20260101.4' } as const
      const building = { ...fresh, vmid: 9004, tags: toTags({ ...marks, state: 'building' }) }
      pve.on('GET /cluster/resources', { json: { data: [...ROWS, building] } })
      expect(await cli('resolve', 'web')).toMatchObject({ code: 0, stdout: '9001\n' })
      expect(asked()).toEqual(ONE)
      pve.on('GET /nodes/pve/qemu', { json: { data: others } })
      expect(await cli('resolve', 'web@20260101.4')).toMatchObject({ code: 1, stdout: '' })
    })
  })

  test('another target’s nodes in the same cluster do not count, unless one is named', async () => {
    const there = template(9010, 'current', '20260102.1', 'other')
    pve.on('GET /cluster/resources', { json: { data: [...ROWS, there] } })
    expect(await cli('resolve', 'web')).toMatchObject({ code: 0, stdout: '9001\n' })
    expect(await cli('resolve', 'web', '--node', 'other')).toMatchObject({ code: 0, stdout: '9010\n' })
    expect(asked()).toEqual([...ONE, ...ONE])
  })

  test('of several nodes the first that has one counts, in the order of the target', async () => {
    const file = join(folder, 'imagebuild.yaml')
    await writeFile(file, (await readFile(file, 'utf8')).replace('node: pve', 'nodes: [empty, pve, other]'))
    const there = template(9010, 'current', '20260102.1', 'other')
    pve.on('GET /cluster/resources', { json: { data: [there, ...ROWS] } })
    expect(await cli('resolve', 'web')).toMatchObject({ code: 0, stdout: '9001\n' })
    expect(await cli('resolve', 'web@20260102.1')).toMatchObject({ code: 0, stdout: '9010\n' })
  })

  test('nothing found is exit 1 and an empty stdout', async () => {
    for (const kind of ['qemu', 'lxc']) pve.on(`GET /nodes/pve/${kind}`, { json: { data: [] } })
    const { code, stdout, stderr } = await cli('resolve', 'wbe')
    expect([code, stdout]).toEqual([1, ''])
    expect(stderr).toContain('there is no current template of wbe on home')
  })

  test('a lab that runs is asked at once', async () => {
    const lab = await mkdtemp(join(tmpdir(), 'imagebuild-resolve-lab-'))
    // As the lab's daemon: a process with the folder as its last argument.
    const daemon = spawn(process.execPath, ['-e', 'setInterval(() => {}, 1000)', lab])
    try {
      const { endpoint, fingerprint } = pve
      const connection = { endpoint, fingerprint, token: TOKEN, node: 'pve', pid: daemon.pid }
      await writeFile(join(lab, 'lab.json'), JSON.stringify(connection))
      vi.stubEnv('IMAGEBUILD_LAB_DIR', lab)
      expect(await cli('resolve', 'web', '--target', 'lab')).toMatchObject({ code: 0, stdout: '9001\n' })
      expect(asked()).toEqual(ONE)
    } finally {
      daemon.kill()
      await rm(lab, { recursive: true })
    }
  })

  test('without a name it is wrong usage', async () => {
    expect(await cli('resolve')).toMatchObject({ code: 64, stdout: '' })
    expect(asked()).toEqual([])
  })
})

describe('resolve --terraform-external', () => {
  const external = async (query: unknown) => {
    const text = typeof query === 'string' ? query : JSON.stringify(query)
    vi.spyOn(process, 'stdin', 'get').mockReturnValue(Readable.from([text]) as typeof process.stdin)
    return cli('resolve', '--terraform-external')
  }

  test('answers with a flat object of strings', async () => {
    const note = {
      schema: 1,
      vmid: 9001,
      namespace: 'home',
      image: 'web',
      kind: 'vm',
      tool: 't',
      run: 'r',
    } as const
    const description = renderNote({ ...note, digest: DIGEST })
    pve.on('GET /nodes/pve/qemu/9001/config', { json: { data: { description } } })
    const { code, stdout } = await external({ image: 'web', selector: '', node: 'pve' })
    expect(code).toBe(0)
    expect(JSON.parse(stdout)).toEqual({
      vmid: '9001',
      node: 'pve',
      name: 'web-20260101.2',
      kind: 'vm',
      version: '20260101.2',
      digest: DIGEST,
    })
  })

  test('understands a selector, also in the name', async () => {
    pve.on('GET /nodes/pve/qemu/9000/config', { json: { data: {} } })
    for (const query of [{ image: 'web', selector: 'previous' }, { image: 'web@20260101.1' }])
      expect(JSON.parse((await external(query)).stdout)).toMatchObject({ vmid: '9000' })
  })

  test.each([
    ['no JSON', 'image=web', 'stdin'],
    ['no image', {}, 'image'],
    ['a key that does not exist', { image: 'web', selektor: 'previous' }, 'selektor'],
    ['something that is no string', { image: 'web', node: 1 }, 'node'],
  ])('%s is told on stderr alone', async (_, query, word) => {
    const { code, stdout, stderr } = await external(query)
    expect([code, stdout]).toEqual([64, ''])
    expect(stderr).toContain(word)
    expect(asked()).toEqual([])
  })

  test('nothing found is exit 1, and stdout stays empty', async () => {
    for (const kind of ['qemu', 'lxc']) pve.on(`GET /nodes/pve/${kind}`, { json: { data: [] } })
    expect(await external({ image: 'other' })).toMatchObject({ code: 1, stdout: '' })
  })
})

test('outputs read the configurations of current templates only', async () => {
  pve.on('GET /nodes/pve/qemu', { json: { data: ROWS } })
  pve.on('GET /nodes/pve/lxc', { json: { data: [] } })
  pve.on('GET /nodes/pve/qemu/9001/config', { json: { data: {} } })
  const { code, stdout, stderr } = await cli('outputs')
  expect([code, stderr]).toEqual([0, ''])
  expect(JSON.parse(stdout)).toMatchObject({ web: { vmid: 9001, node: 'pve' } })
  expect(asked().filter((line) => line.includes('/config'))).toEqual([
    'GET /api2/json/nodes/pve/qemu/9001/config',
  ])
})
