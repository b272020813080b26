import { mkdir, mkdtemp, rename, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { Report } from '../../src/build/verify/report.ts'
import type { Pve } from '../../src/pve/client.ts'
import { destroyGuest } from '../../src/pve/destroy.ts'
import { generateKeyPair } from '../../src/ssh/openssh.ts'
import { BOOTSTRAP, inventory, labClient, makeProject, type Project } from './harness.ts'

/** Containers without a CA: who looks into a clone is a user of the definition, whose key the runner has. */
const IMAGE = 'keyed'
let project: Project
let pve: Pve | undefined
let home: string
let publicKey: string

const definition = (more = '') => ({
  [`images/${IMAGE}/image.yaml`]: `name: ${IMAGE}
kind: lxc
${BOOTSTRAP}
hardware: { rootfs: 2G }
ssh: { ca: [] }
provision:
  - packages: [sudo]
  - shell: |
      useradd --create-home --shell /bin/bash ada
      install -d -m 0700 -o ada -g ada /home/ada/.ssh
  - file: { path: /home/ada/.ssh/authorized_keys, content: "${publicKey}\\n", owner: "ada:ada", mode: "0600" }
${more}checks:
  - file: /etc/debian_version
`,
})

beforeAll(async () => {
  home = await mkdtemp(join(tmpdir(), 'imagebuild-home-'))
  const pair = await generateKeyPair('ada@desk')
  publicKey = pair.publicKey
  await mkdir(join(home, '.ssh'), { mode: 0o700 })
  await writeFile(join(home, '.ssh/away'), pair.privateKey, { mode: 0o600 })
  await writeFile(join(home, '.ssh/id_ed25519.pub'), `${publicKey}\n`)
  project = await makeProject(definition())
})

afterAll(async () => {
  if (pve !== undefined) {
    const { guests } = await inventory(pve)
    for (const { vmid } of guests.filter(({ tags }) => tags.includes(`ib-image-${IMAGE}`)))
      await destroyGuest(pve, { kind: 'lxc', node: 'lab', vmid, signal: AbortSignal.timeout(60_000) })
    await pve[Symbol.asyncDispose]()
  }
  await project[Symbol.asyncDispose]()
  await rm(home, { recursive: true, force: true })
})

async function run() {
  const env = { IMAGEBUILD_VERIFY: 'full', HOME: home, SSH_AUTH_SOCK: '' }
  const ran = await project.run([IMAGE], { env })
  expect(ran.exitCode, `${ran.stderr}${JSON.stringify(ran.result.error, undefined, 2)}`).toBe(0)
  pve ??= await labClient()
  const { stdout } = await project.imagebuild(['show', IMAGE, '--verify', '--json'])
  const { summary, results } = JSON.parse(stdout) as Report
  const result = (id: string) => results.find((one) => one.id === id)
  const steps = ran.events.flatMap((event) => (event.type === 'step.start' ? [event.step] : []))
  return { steps, text: stdout, summary, result }
}

test('without the private key it is seen from outside, and the report says what is missing', async () => {
  const { summary, result } = await run()
  expect(summary).toMatchObject({ failed: 0, inside: 'not verified', certificates: 'not configured' })
  expect(result('inside')).toMatchObject({
    outcome: 'skipped',
    found: expect.stringMatching(/ada’s key SHA256:\S+ is neither in ssh-agent here nor in .*\.ssh/),
  })
})

test('once the key is there it is verified anew, not built; a user who cannot become root sees nothing', async () => {
  await rename(join(home, '.ssh/away'), join(home, '.ssh/id_ed25519'))
  const { steps, summary, result, text } = await run()
  expect(steps).toContain('verify')
  expect(steps).not.toContain('create')
  expect(summary).toMatchObject({ failed: 0, inside: 'not verified' })
  expect(result('login')).toMatchObject({ group: 'health', outcome: 'passed' })
  expect(result('inside')).toMatchObject({
    outcome: 'skipped',
    found: expect.stringMatching(
      /ada, whose key SHA256:\S+ is at hand, logs in and cannot become root: sudo/,
    ),
  })
  expect(result('checks/1')).toMatchObject({ outcome: 'skipped' })
  expect(text).not.toContain('PRIVATE KEY')
})

test('what has been tried in vain is not tried in each run', async () => {
  expect((await run()).steps).toEqual([])
})

test('with sudo that asks for no password it is verified from within', async () => {
  await project.write(
    definition(
      '  - file: { path: /etc/sudoers.d/ada, content: "ada ALL=(ALL) NOPASSWD: ALL\\n", mode: "0440" }\n',
    ),
  )
  const { summary, result } = await run()
  expect(summary).toMatchObject({ failed: 0, inside: 'verified', certificates: 'not configured' })
  expect(result('checks/1')).toMatchObject({ outcome: 'passed' })
  expect(result('plain-key')).toMatchObject({ outcome: 'passed' })
  expect(result('machine-id')).toMatchObject({ outcome: 'passed' })
})
