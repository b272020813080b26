import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { Report } from '../../src/build/verify/report.ts'
import type { Pve } from '../../src/pve/client.ts'
import { destroyGuest } from '../../src/pve/destroy.ts'
import { BOOTSTRAP, inventory, labClient, makeProject, type Project, untilEvent } from './harness.ts'

/** `run` with its default, `--verify full`: what counts as current, and what users are told. With a container: seconds. */
let project: Project
let pve: Pve
const VERIFY = { env: { IMAGEBUILD_VERIFY: 'full' } }

const definition = (checks: string, layer = 'true') => ({
  'images/proved/image.yaml': `name: proved
kind: lxc
${BOOTSTRAP}
hardware: { rootfs: 2G }
provision:
  - shell: ${JSON.stringify(layer)}
template: { archive: true }
checks:
  - ${checks}
`,
})
const GOOD = 'file: /etc/debian_version'

beforeAll(async () => {
  project = await makeProject(definition(GOOD))
})

afterAll(async () => {
  const templates = (await inventory(pve)).guests.filter(({ tags }) => tags.includes('ib-image-proved'))
  for (const { vmid } of templates)
    await destroyGuest(pve, { kind: 'lxc', node: 'lab', vmid, signal: AbortSignal.timeout(60_000) })
  const { volumes } = await inventory(pve)
  for (const volid of volumes.filter((one) => one.includes('vztmpl/proved')))
    await pve.api.nodes.$('lab').storage.$('local').content.$(volid).$delete({ delay: 5 })
  await pve[Symbol.asyncDispose]()
  await project[Symbol.asyncDispose]()
})

const resolved = async (what = 'proved') => (await project.imagebuild(['resolve', what])).stdout
const listed = async () =>
  JSON.parse((await project.imagebuild(['list', '--json'])).stdout).filter(
    ({ image }: { image: string }) => image === 'proved',
  ) as { vmid: number; state: string; verified: string }[]

let good: string

test('a template that passes is verified, promoted, and its report can be read', async () => {
  const { exitCode, result, stderr } = await project.run(['proved'], VERIFY)
  expect(exitCode, `${stderr}${JSON.stringify(result.error, undefined, 2)}`).toBe(0)
  expect(result).toMatchObject({ status: 'built', verifySeconds: expect.any(Number) })
  good = String(result.template?.vmid)
  pve = await labClient()
  expect(await resolved()).toBe(good)
  expect(await listed()).toMatchObject([{ vmid: Number(good), state: 'current', verified: 'yes' }])
  expect((await inventory(pve)).guests.filter(({ template }) => !template)).toEqual([])

  const shown = await project.imagebuild(['show', 'proved', '--verify'])
  expect(shown.stdout).toContain('checks/1  file: /etc/debian_version')
  const report = JSON.parse(
    (await project.imagebuild(['show', 'proved', '--verify', '--json'])).stdout,
  ) as Report
  expect(report.summary).toMatchObject({ failed: 0, certificates: 'passed', inside: 'verified' })
  const version = result.template?.version ?? ''
  const path = join(project.root, '.imagebuild/builds/lab/proved', version, 'verify.json')
  expect(JSON.parse(await readFile(path, 'utf8'))).toEqual(report)
})

test('it is unchanged then, and nothing is verified again', async () => {
  const { result, events } = await project.run(['proved'], VERIFY)
  expect(result.status).toBe('unchanged')
  expect(result).not.toHaveProperty('verifySeconds')
  expect(events.filter((event) => event.type === 'step.start')).toEqual([])
})

test('a runner without the report says what the note says', async () => {
  await using other = await makeProject(definition(GOOD))
  const { stdout, stderr } = await other.imagebuild(['show', 'proved', '--verify'])
  expect(stdout).toMatch(/^\d+ passed, 0 failed/m)
  expect(stderr).toMatch(/report not here, sha256 [0-9a-f]{64}/)
})

test('other checks are asked of the same template, without building; what fails is named, and the template stays', async () => {
  await project.write(definition('{ package: telnet, name: no plain text logins }'))
  const { exitCode, result, events } = await project.run(['proved'], VERIFY)
  expect(exitCode).toBe(1)
  expect(result.error).toMatchObject({
    what: expect.stringContaining('proved'),
    why: expect.stringMatching(/checks\/1: no plain text logins \(.*images\/proved\/image\.yaml:/),
  })
  expect(events.some((event) => event.type === 'step.start' && event.step === 'boot')).toBe(false)
  expect(await resolved()).toBe(good)
  expect(await listed()).toMatchObject([{ vmid: Number(good), state: 'current', verified: 'no' }])

  await project.write(definition(GOOD))
  expect((await project.run(['proved'], VERIFY)).result.status).toBe('unchanged')
  expect(await listed()).toMatchObject([{ verified: 'yes' }])
})

test('a template with planted leftovers is refused, each by its name; the good one stays, and nothing else', async () => {
  const before = await inventory(pve)
  await project.write(
    definition(
      GOOD,
      [
        'mkdir -p /root/.ssh && ssh-keygen -q -t ed25519 -N "" -f /root/.ssh/id_planted',
        'echo "machine git.example login me password x" > /root/.netrc',
      ].join('\n'),
    ),
  )
  const { exitCode, result } = await project.run(['proved'], VERIFY)
  expect(exitCode).toBe(1)
  const why = String((result.error as { why?: string }).why)
  for (const path of ['/root/.ssh/id_planted', '/root/.netrc']) expect(why).toContain(path)
  expect(await inventory(pve)).toEqual(before)
  expect(await resolved()).toBe(good)
})

test('one changed line rebuilds, and the old template stays as @previous; --verify off is told by list', async () => {
  await project.write(definition(GOOD, 'echo second'))
  const { result } = await project.run(['proved', '--verify', 'off'])
  expect(result.status).toBe('built')
  expect(result).not.toHaveProperty('verifySeconds')
  expect([await resolved('proved@current'), await resolved('proved@previous')]).toEqual([
    String(result.template?.vmid),
    good,
  ])
  expect(await listed()).toMatchObject([
    { vmid: Number(await resolved()), state: 'current', verified: 'no' },
    { vmid: Number(good), state: 'previous', verified: 'yes' },
  ])
  const { exitCode, stderr } = await project.imagebuild(['show', 'proved', '--verify'])
  expect([exitCode, stderr]).toEqual([1, expect.stringContaining('was not verified')])
})

test('killed while the clones are examined: the next run verifies and promotes what is there', async () => {
  await project.write(definition(GOOD, 'echo third'))
  const current = await resolved()
  const running = project.imagebuild(['run', '--json', 'proved'], VERIFY)
  await untilEvent(running, (event) => event.type === 'step.start' && event.step === 'verify')
  await new Promise((done) => setTimeout(done, 1500))
  running.kill('SIGKILL')
  await running
  expect(await resolved()).toBe(current)
  const candidates = (await listed()).filter(({ state }) => state === 'candidate')
  expect(candidates).toHaveLength(1)
  const { exitCode, result, events, stderr } = await project.run(['proved'], VERIFY)
  expect(exitCode, stderr).toBe(0)
  expect(result).toMatchObject({ status: 'built', template: { vmid: candidates[0]?.vmid } })
  expect(events.some((event) => event.type === 'step.start' && event.step === 'create')).toBe(false)
  expect(await resolved()).toBe(String(candidates[0]?.vmid))
  expect((await inventory(pve)).guests.filter(({ template }) => !template)).toEqual([])
})
