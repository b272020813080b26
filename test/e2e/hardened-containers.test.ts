import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { execa } from 'execa'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { scanHostKeys } from '../../src/build/verify/openssh-client.ts'
import type { Report } from '../../src/build/verify/report.ts'
import { poll } from '../../src/core/scope.ts'
import type { Pve } from '../../src/pve/client.ts'
import { destroyGuest } from '../../src/pve/destroy.ts'
import { openAuthority } from '../../src/ssh/ca/authority.ts'
import { generateKeyPair, knownHostsLine } from '../../src/ssh/openssh.ts'
import { BOOTSTRAP, inventory, LAB_DIR, labClient, makeProject, type Project } from './harness.ts'

/** Everything that hardening has for a container at once, and nothing of it in the way of the build or of its clones. */
const IMAGE = 'hardened'
const CLONE = 530
const POST_QUANTUM = 'sntrup761x25519-sha512@openssh.com'

let project: Project
let pve: Pve
let folder: string

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'imagebuild-hardened-'))
  project = await makeProject({
    [`images/${IMAGE}/image.yaml`]: `name: ${IMAGE}
kind: lxc
${BOOTSTRAP}
hardware: { rootfs: 2G }
hardening: { profile: cis-l1, postQuantum: true }
`,
  })
})

afterAll(async () => {
  const own = pve && (await inventory(pve)).guests.filter(({ tags }) => tags.includes(`ib-image-${IMAGE}`))
  for (const { vmid } of own ?? [])
    await destroyGuest(pve, { kind: 'lxc', node: 'lab', vmid, signal: AbortSignal.timeout(60_000) })
  await pve?.[Symbol.asyncDispose]()
  await project[Symbol.asyncDispose]()
  await rm(folder, { recursive: true, force: true })
})

let template: number

test('is built to its end, and passes every check of cis-l1 on a clone that is entered by certificate', async () => {
  const { exitCode, result, stderr } = await project.run([IMAGE], { env: { IMAGEBUILD_VERIFY: 'full' } })
  expect(exitCode, `${stderr}${JSON.stringify(result.error, undefined, 2)}`).toBe(0)
  expect(result.status).toBe('built')
  template = result.template?.vmid as number
  pve = await labClient()
  const { stdout } = await project.imagebuild(['show', IMAGE, '--verify', '--json'])
  const { summary, results } = JSON.parse(stdout) as Report
  expect(summary).toMatchObject({ failed: 0, skipped: 0, certificates: 'passed', inside: 'verified' })
  expect(results.filter(({ group }) => group === 'checks').length).toBeGreaterThan(200)
  const postQuantum = results.find(({ id }) => id === 'sshd-post-quantum')
  expect(postQuantum).toMatchObject({ outcome: 'passed' })
  // What is the node's business is told, and not counted.
  expect(results.find(({ id }) => id === 'kernel-aslr')).toMatchObject({ outcome: 'not-applicable' })
})

test('a consumer’s clone lets OpenSSH in by post-quantum key exchange, and by no other', async () => {
  const signal = AbortSignal.timeout(120_000)
  const { lxc } = pve.api.nodes.$('lab')
  const cloning = lxc.$(template).clone.$post({ newid: CLONE, full: true, hostname: 'consumer' })
  await pve.waitTask((await cloning) as string, { seconds: 120 })
  try {
    const container = lxc.$(CLONE)
    await pve.waitTask((await container.status.start.$post()) as string, { seconds: 120 })
    const address = await poll(
      async () => {
        const cards = (await container.interfaces.$get()) as { name: string; inet?: string }[] | null
        return cards?.find(({ name }) => name === 'eth0')?.inet?.split('/')[0]
      },
      { signal, first: 100, max: 500 },
    )
    const hostKeys = await poll(
      async () => {
        const keys = await scanHostKeys(address, signal)
        return keys.length > 0 ? keys : undefined
      },
      { signal, first: 250, max: 1000 },
    )
    const ssh = await consumer(address, hostKeys)
    expect(await ssh(POST_QUANTUM)).toMatchObject({ exitCode: 0, stdout: 'consumer' })
    const refused = await ssh('curve25519-sha256')
    expect(refused.exitCode).toBe(255)
    expect(refused.stderr).toMatch(/no matching key exchange method found\. Their offer: .*sntrup761/)
    expect(refused.stderr).not.toContain(`Their offer: curve25519`)
  } finally {
    await destroyGuest(pve, { kind: 'lxc', node: 'lab', vmid: CLONE, signal: AbortSignal.timeout(60_000) })
  }
})

/** Somebody with a certificate of the lab's CA, and with OpenSSH's own client. */
async function consumer(address: string, hostKeys: readonly string[]) {
  const file = (name: string) => join(folder, name)
  const { publicKey, privateKey } = await generateKeyPair('consumer')
  const authority = await openAuthority(join(LAB_DIR, 'ssh-ca'))
  const certificate = await authority.signUser({
    publicKey,
    principals: ['root'],
    identity: 'consumer',
    validity: 600,
  })
  await writeFile(file('id'), privateKey, { mode: 0o600 })
  await writeFile(file('id-cert.pub'), `${certificate}\n`)
  await writeFile(file('known_hosts'), hostKeys.map((key) => knownHostsLine(address, 22, key)).join(''))
  const options = {
    BatchMode: 'yes',
    IdentityAgent: 'none',
    IdentitiesOnly: 'yes',
    IdentityFile: file('id'),
    UserKnownHostsFile: file('known_hosts'),
    StrictHostKeyChecking: 'yes',
    ConnectTimeout: 20,
  }
  const given = Object.entries(options).flatMap(([name, value]) => ['-o', `${name}=${value}`])
  return (kex: string) =>
    execa(
      'ssh',
      ['-F', 'none', ...given, '-o', `KexAlgorithms=${kex}`, `root@${address}`, 'cat /etc/hostname'],
      { reject: false, stdin: 'ignore' },
    )
}
