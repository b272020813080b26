import { mkdtemp, rm } from 'node:fs/promises'
import { hostname, tmpdir } from 'node:os'
import { join } from 'node:path'
import { execa } from 'execa'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { claimImage } from '../../src/pve/claim.ts'
import type { Claim } from '../../src/pve/claim-held.ts'
import { connect, type Pve } from '../../src/pve/client.ts'
import { renderNote, toTags } from '../../src/pve/marks.ts'
import { thisOwner } from '../../src/pve/owner.ts'
import { projectOnDisk } from '../definition/project-on-disk.ts'
import { ownPool } from './own.ts'
import { guestsInRange } from './server.ts'
import { ended, startTarget, type Target } from './target.ts'

/** The second runner on one image, as a process of its own, over the wire. No guest is ever started. */

const MAIN = join(import.meta.dirname, '../../src/cli/main.ts')
const signal = AbortSignal.timeout(600_000)
let target: Target
let pve: Pve
let project: Awaited<ReturnType<typeof projectOnDisk>>
let state: string
let templates: number

beforeAll(async () => {
  target = await startTarget()
  const { base, fingerprint, credentials } = target.client
  const auth = { kind: 'token', token: credentials.token ?? '' } as const
  pve = await connect({ endpoint: base, auth, tls: { fingerprint }, signal })
  templates = await target.vmid()
  state = await mkdtemp(join(tmpdir(), 'imagebuild-runners-'))
  project = await projectOnDisk({
    'imagebuild.yaml': `
namespace: ${target.own.namespace}
targets:
  here:
    kind: pve
    endpoint: ${base}
    fingerprint: "${fingerprint}"
    node: ${target.node}
    storages: { disks: ${target.files}, images: ${target.files} }
    bridge: ${target.bridge}
    pool: ${ownPool(target.own)}
    addresses: { range: 192.0.2.100-192.0.2.119, prefix: 24, gateway: 192.0.2.1 }
    vmids: { templates: ${templates}-${templates}, claims: ${templates + 1}-${templates + 9} }
`,
    'images/web/image.yaml':
      'name: web\nkind: lxc\nsource: { bootstrap: { distribution: debian, suite: trixie } }\n',
  })
})
afterAll(async () => {
  await pve?.[Symbol.asyncDispose]()
  await target?.stop()
  await project?.[Symbol.asyncDispose]()
  await rm(state, { recursive: true, force: true })
})

function imagebuild(...args: string[]) {
  return execa(process.execPath, [MAIN, ...args], {
    cwd: project.root,
    reject: false,
    stdin: 'ignore',
    env: {
      IMAGEBUILD_TARGET: 'here',
      IMAGEBUILD_VERIFY: 'off',
      IMAGEBUILD_CACHE_DIR: state,
      PROXMOX_VE_API_TOKEN: target.client.credentials.token,
      NO_COLOR: '1',
    },
  })
}

/** The first runner is this test. */
const claimed = async (): Promise<Claim> =>
  await claimImage(pve, {
    place: {
      ...{ target: 'here', node: target.node, bridge: target.bridge, macPrefix: '02:1b', dns: [] },
      pool: ownPool(target.own),
      storages: { disks: target.files, images: target.files, archives: target.files },
      vmids: {
        templates: { first: templates, last: templates },
        claims: { first: templates + 1, last: templates + 9 },
      },
      ssh: { authorities: [] },
    },
    ...{
      namespace: target.own.namespace,
      image: 'web',
      run: 'first',
      owner: await thisOwner(),
      tool: '0',
      slot: 0,
    },
    emit: () => {},
    signal,
    onLost: () => {},
  })

/** What the first runner has made when it is done. */
async function finishTemplate(digest: string): Promise<void> {
  const { client, node } = target
  const guests = `/nodes/${node}/qemu`
  await ended(target, await client.post(guests, { vmid: templates, name: 'web-20260101.1' }))
  await ended(target, await client.post(`${guests}/${templates}/template`, {}))
  const marks = {
    vmid: templates,
    namespace: target.own.namespace,
    image: 'web',
    version: '20260101.1',
    digest,
  } as const
  const description = renderNote({
    ...{
      schema: 1,
      vmid: templates,
      namespace: target.own.namespace,
      image: 'web',
      kind: 'vm',
      tool: '0',
      run: 'first',
    },
    ...{ version: '20260101.1', digest, verify: 'off' },
  })
  const reply = await client.put(`${guests}/${templates}/config`, {
    tags: toTags({ ...marks, state: 'current' }),
    description,
  })
  expect(reply.status).toBe(200)
}

test('without --wait: exit 75, and who builds since when; plan does not mind, and changes nothing', async () => {
  await using _claim = await claimed()
  const before = await guestsInRange(target)
  const refused = await imagebuild('run', 'web')
  expect(refused.exitCode).toBe(75)
  expect(refused.stderr).toContain('web is being built already')
  expect(refused.stderr).toContain(`process ${process.pid} on ${hostname()} (run first), building it since 2`)
  expect(refused.stderr).toContain('--wait')
  const planned = await imagebuild('plan', '--detailed-exitcode')
  expect(planned.exitCode).toBe(2)
  expect(planned.stdout).toMatch(/^web +build +there is no current template$/)
  expect(await guestsInRange(target)).toEqual(before)
})

test('with --wait: says once for whom, and takes what the other one has built', async () => {
  const { digest } = JSON.parse((await imagebuild('plan', 'web', '--json')).stdout).images[0]
  const claim = await claimed()
  const waiting = imagebuild('run', 'web', '--wait')
  const { promise: told, resolve } = Promise.withResolvers<void>()
  let said = ''
  waiting.stderr.on('data', (chunk: Buffer) => {
    said += chunk
    if (said.includes('waiting for')) resolve()
  })
  await Promise.race([told, waiting])
  expect(said).toContain('web: waiting for')
  // Long enough to look again.
  await new Promise((resolve) => setTimeout(resolve, 2500))
  expect(said.match(/waiting for/g)).toHaveLength(1)
  await finishTemplate(digest)
  await claim[Symbol.asyncDispose]()
  const { exitCode, stdout, stderr } = await waiting
  expect(stderr.match(/: waiting for [^\n]*since [^\n]*Z$/gm)).toHaveLength(1)
  expect(stdout).toMatch(new RegExp(`^web {2}unchanged {2}template ${templates} on ${target.node}`))
  expect(exitCode).toBe(0)
})

test('Ctrl-C ends the waiting', async () => {
  await using _claim = await claimed()
  const waiting = imagebuild('run', 'web', '--wait', '--force')
  await new Promise<void>((resolve) => {
    waiting.stderr.on('data', (chunk: Buffer) => {
      if (String(chunk).includes('waiting for')) resolve()
    })
    waiting.finally(resolve)
  })
  waiting.kill('SIGINT')
  expect((await waiting).exitCode).toBe(130)
})
