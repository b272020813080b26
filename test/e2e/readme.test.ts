import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type LabStatus, labStatus } from '../../src/lab/lab.ts'
import { Engine } from '../../src/pve/engine.ts'
import { block } from '../readme/blocks.ts'
import { type Reader, reader, type Typed } from '../readme/home.ts'
import { pveumCall } from '../readme/pveum.ts'
import { callsOf, wordsOf } from '../readme/shell.ts'
import { BOOTSTRAP, CACHE_DIR } from './harness.ts'
import { traces } from './setup.ts'

/**
 * README from top to bottom, typed by somebody who has a HOME, a project and a lab of their own. Virtual machines are built by
 * other tests: `web` is a container here, of the system that those share.
 */

let me: Reader
let lab: Extract<LabStatus, { running: true }>

const labFolder = () => join(me.home, '.local/state/imagebuild/lab')

beforeAll(async () => {
  me = await reader({ IMAGEBUILD_CACHE_DIR: CACHE_DIR })
  const { stdout, exitCode, stderr } = await me.types('./imagebuild lab start')
  expect(exitCode, stderr).toBe(0)
  const status = await labStatus(labFolder())
  if (!status.running) throw new Error('the lab does not run')
  lab = status
  for (const told of [lab.endpoint, lab.token, lab.fingerprint]) expect(stdout).toContain(told)
})

afterAll(async () => {
  const { stderr, exitCode } = await me.types('./imagebuild lab stop --force')
  expect(exitCode, stderr).toBe(0)
  expect(await traces(labFolder())).toEqual([])
  await me[Symbol.asyncDispose]()
})

async function typed(lines: string, env?: Readonly<Record<string, string>>): Promise<Typed> {
  const done = await me.types(lines, env)
  expect(done.exitCode, done.stderr).toBe(0)
  return done
}

/** Whether two clones are examined is not what is tried here, but once. */
const UNVERIFIED = { IMAGEBUILD_VERIFY: 'off' }

test('the container is built as it stands there, examined, and unchanged then', async () => {
  const { text } = block('README.md', 'name: dns')
  await me.write({ 'images/dns/image.yaml': text })
  const { stdout, stderr } = await typed('./imagebuild run dns')
  expect(stdout).toMatch(/^dns {2}built {2}template \d+ on lab {2}\(/)
  expect(stderr).toMatch(/clone it by VMID \d+ on lab; next: \.\/imagebuild show dns --verify$/)
  expect((await typed('./imagebuild show dns --verify')).stdout).toContain('dns')
  expect((await typed('./imagebuild run dns')).stdout).toMatch(/^dns {2}unchanged {2}/)
})

/** A text with each of these changes; one that changes nothing is a mistake. */
function changed(text: string, changes: readonly (readonly [RegExp, string])[]): string {
  return changes.reduce((before, [pattern, instead]) => {
    const after = before.replace(pattern, instead)
    expect(after, String(pattern)).not.toBe(before)
    return after
  }, text)
}

/** README's `web`, as a container; the rest of it stays. */
const webAsContainer = () =>
  changed(block('README.md', 'name: web').text, [
    [/^kind: vm$/m, 'kind: lxc'],
    [/^source:\n {2}release: .*$/m, BOOTSTRAP],
    [/^ {2}disk: 10G$/m, '  rootfs: 10G'],
    [/^cloudInit: .*\n/m, ''],
  ])

describe('an image of your own', () => {
  test('is built with the files beside it, and unchanged when it is run again', async () => {
    await me.write({ 'images/web/image.yaml': webAsContainer() })
    const { stdout } = await typed(block('README.md', 'mkdir -p images/web/files').text, UNVERIFIED)
    expect(stdout).toMatch(/^web {2}built .*\nweb {2}unchanged /m)
    const log = await typed('cat .imagebuild/logs/*')
    expect(log.stdout).not.toContain('s3cret-token')
  })

  test('has a plan that says what another text changes', async () => {
    await me.write({ 'images/web/files/site.conf': 'server { listen 8081; }\n' })
    const [command = '', , layer = ''] = block('README.md', '$ ./imagebuild plan --explain').text.split('\n')
    const { stdout } = await typed(command.replace('$ ', ''))
    expect(stdout).toMatch(/^web +rebuild$/m)
    expect(stdout).toMatch(/^dns +nothing +\S+ is up to date$/m)
    const shape = (line: string) => line.replaceAll(/\d+/g, 'N').replace(/: file: .*/, '')
    expect(stdout.split('\n').map(shape)).toContain(shape(layer))
    expect(stdout).toMatch(/^ +-server .*\n +\+server \{ listen 8081; \}$/m)
  })

  test('tells readers of JSON how long each step took last time', async () => {
    const { stdout } = await typed('REGISTRY_TOKEN=x ./imagebuild run web --json', UNVERIFIED)
    const events = stdout.split('\n').map((line) => JSON.parse(line) as Record<string, unknown>)
    expect(events.at(-1)).toMatchObject({ type: 'run.end', results: [{ image: 'web', status: 'built' }] })
    const boot = events.find(({ type, step }) => type === 'step.start' && step === 'boot')
    expect(boot).toMatchObject({ lastSeconds: expect.any(Number) })
  })

  test('has versions, which differ, go back and forth, and of which some go', async () => {
    const shown = block('README.md', '$ imagebuild diff web').text.split('\n')
    const diff = (await typed('imagebuild diff web')).stdout.split('\n')
    const versions = /^web \d{8}\.\d+ → \d{8}\.\d+ on (home|lab)$/
    expect([shown[1], diff[0]]).toEqual([expect.stringMatching(versions), expect.stringMatching(versions)])
    expect(diff.join('\n')).toContain('/etc/nginx/conf.d/site.conf')
    const { stdout } = await typed(block('README.md', 'imagebuild history web').text)
    expect(stdout).toMatch(/current/)
    expect(stdout).toMatch(/previous/)
    const current = async () => (await typed('imagebuild resolve web')).stdout
    const before = await current()
    await typed('imagebuild rollback web')
    expect(await current()).not.toBe(before)
    await typed('imagebuild promote web@previous')
    expect(await current()).toBe(before)
  })
})

describe('on your Proxmox, which is the lab here', () => {
  test('the token that those lines make can build', async () => {
    const secret = await makeToken()
    const { pool, cidr, gateway } = lab.network
    const target = changed(block('README.md', '    endpoint: https://pve.example:8006').text, [
      [/https:\/\/pve.example:8006/, lab.endpoint],
      [/"AA:BB:…"/, `'${lab.fingerprint}'`],
      [/^ {4}node: pve$/m, `    node: ${lab.node}`],
      [/192\.0\.2\.100-192\.0\.2\.119/, `${pool.first}-${pool.last}`],
      [/prefix: 24, gateway: 192\.0\.2\.1\b/, `prefix: ${cidr.split('/')[1]}, gateway: ${gateway}`],
      [/dns: \[192\.0\.2\.1\]/, `dns: [${gateway}]`],
    ])
    // The same cluster for another network: a namespace of its own.
    await me.write({
      'imagebuild.yaml': `namespace: home\n${target}`,
      'images/web/image.yaml': webAsContainer(),
    })
    const { text } = block('README.md', 'mkdir -p images/web/files')
    await typed(text.replaceAll(/^\.\/imagebuild .*$/gm, ''))
    const run = `PROXMOX_VE_API_TOKEN='${USER}!ci=${secret}' ./imagebuild run web --target home`
    const { stdout } = await typed(`export REGISTRY_TOKEN=s3cret-token\n${run}`, UNVERIFIED)
    expect(stdout).toMatch(/^web {2}built {2}template \d+ on lab {2}\(/)
  })
})

/** The lab has imagebuild@pve and that role already, for a token that may do everything. */
const USER = 'reader@pve'

/** Does by the API what README's `pveum` lines do on a node, as root does them there; gives the token's secret. */
async function makeToken(): Promise<string> {
  await using root = new Engine({
    endpoint: lab.endpoint,
    auth: { kind: 'ticket', ...lab.root },
    tls: { fingerprint: lab.fingerprint },
  })
  const { text: lines } = block('README.md', 'pveum user add')
  const text = lines.replaceAll('imagebuild@pve', USER).replaceAll(/\bImagebuild\b/g, 'Reader')
  let secret = ''
  for (const { method, path, params } of wordsOf('pveum', callsOf('pveum', text), me.home).map(pveumCall)) {
    const { data } = await root.request(method, path, params, { signal: AbortSignal.timeout(60_000) })
    secret = (data as { value?: string } | null)?.value ?? secret
  }
  return secret
}
