import { afterAll, beforeAll, expect, test } from 'vitest'
import type { Pve } from '../../src/pve/client.ts'
import { destroyGuest } from '../../src/pve/destroy.ts'
import { runExample } from './ansible-example.ts'
import { BOOTSTRAP, inventory, labClient, makeProject, type Project } from './harness.ts'

/**
 * The life of a template as a consumer sees it: Debian's Ansible, the example that is shipped, its own connection.
 * The shipped images are cloned by it where they are built: build.test.ts, container-images.test.ts.
 */
let project: Project
let pve: Pve

const release = (text: string) => ({
  'images/served/image.yaml': `name: served
kind: lxc
${BOOTSTRAP}
hardware: { rootfs: 2G }
provision:
  - file: { path: /etc/served, content: "${text}\\n" }
`,
})
const CLONES = [520, 521, 522]

beforeAll(async () => {
  project = await makeProject(release('first'))
})

afterAll(async () => {
  const { guests } = await inventory(pve)
  const ours = guests.filter(({ vmid, tags }) => CLONES.includes(vmid) || tags.includes('ib-image-served'))
  for (const { vmid } of ours)
    await destroyGuest(pve, { kind: 'lxc', node: 'lab', vmid, signal: AbortSignal.timeout(60_000) })
  await pve[Symbol.asyncDispose]()
  await project[Symbol.asyncDispose]()
})

const example = (vmid: number, env = {}) =>
  runExample(project, { image: 'served', vmid, command: 'cat /etc/served /etc/hostname', env })
const resolved = async (what = 'served') => (await project.imagebuild(['resolve', what])).stdout

test('the current template is cloned by the ID in `outputs`, started, and entered by certificate', async () => {
  const { exitCode, stderr } = await project.run(['served'])
  expect(exitCode, stderr).toBe(0)
  pve = await labClient()
  expect(await example(520)).toEqual({
    exitCode: 0,
    changed: ['Clone the container template', 'Start the container', 'Add the clone to the inventory'],
    failed: '',
    said: ['first', 'served-520'],
  })
})

test('run again, it finds the clone, and changes nothing about it', async () => {
  const again = await example(520)
  expect(again).toMatchObject({ exitCode: 0, said: ['first', 'served-520'] })
  expect(again.changed).toEqual(['Add the clone to the inventory'])
})

test('a certificate that nobody vouches for ends it before anything is sent', async () => {
  const refused = await example(521, { REQUESTS_CA_BUNDLE: '' })
  expect(refused.exitCode).not.toBe(0)
  expect(refused.failed).toMatch(/^Know on which storage the template is: .*CERTIFICATE_VERIFY_FAILED/s)
  expect((await inventory(pve)).guests.map(({ vmid }) => vmid)).not.toContain(521)
})

test('a rollback changes what it clones, by tags alone; the next run keeps that', async () => {
  const first = await resolved()
  await project.write(release('second'))
  expect((await project.run(['served'])).result.status).toBe('built')
  expect((await example(521)).said).toEqual(['second', 'served-521'])

  const tasks = async () => await pve.api.nodes.$('lab').tasks.$get({ limit: 1000 })
  const before = await tasks()
  const { exitCode, stderr } = await project.imagebuild(['rollback', 'served'])
  expect(exitCode, stderr).toBe(0)
  expect(await tasks()).toEqual(before)
  expect(await resolved()).toBe(first)
  expect((await example(522)).said).toEqual(['first', 'served-522'])

  const { result } = await project.run(['served'])
  expect(result).toMatchObject({ status: 'unchanged', held: true, template: { vmid: Number(first) } })
  expect(await resolved()).toBe(first)
})
