import { createHash } from 'node:crypto'
import { existsSync } from 'node:fs'
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { connect as connectTls } from 'node:tls'
import { execa } from 'execa'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { watchLab } from '../../src/cli/lab-end.ts'
import { ImagebuildError } from '../../src/core/errors.ts'
import type { RunResult } from '../../src/core/events.ts'
import { ensureLab, type LabConnection, labStatus, stopLab } from '../../src/lab/lab.ts'
import { claimImage } from '../../src/pve/claim.ts'
import type { Claim } from '../../src/pve/claim-held.ts'
import { connect, type Pve } from '../../src/pve/client.ts'
import { renderNote, toTags } from '../../src/pve/marks.ts'
import { thisOwner } from '../../src/pve/owner.ts'
import { PLACE } from '../pve/memory-proxmox.ts'

/** `lab stop` of a real lab that somebody uses, and what a build says whose lab is stopped. */

const MAIN = resolve(import.meta.dirname, '../../src/cli/main.ts')
const { signal } = new AbortController()
const notRoot = process.getuid?.() !== 0

let dir: string
let lab: LabConnection

const env = () => ({
  ...{ IMAGEBUILD_LAB_DIR: dir, IMAGEBUILD_CACHE_DIR: join(dir, 'cache'), NO_COLOR: '1', CI: '' },
  IMAGEBUILD_VERIFY: 'off',
})
const imagebuild = (args: readonly string[], cwd = dir) =>
  execa(process.execPath, [MAIN, ...args], { cwd, env: env(), reject: false, stdin: 'ignore' })

/** The same on a pseudo terminal, where somebody answers. */
const onTerminal = (args: readonly string[], answer: string) => {
  const line = [process.execPath, MAIN, ...args].map((word) => `'${word}'`).join(' ')
  return execa('script', ['--quiet', '--flush', '--return', '--command', line, '/dev/null'], {
    ...{ cwd: dir, env: env(), reject: false, input: answer },
  })
}

const client = (): Promise<Pve> =>
  connect({
    endpoint: lab.endpoint,
    auth: { kind: 'token', token: lab.token },
    tls: { fingerprint: lab.fingerprint },
    signal,
  })

async function claim(pve: Pve): Promise<Claim> {
  return await claimImage(pve, {
    place: { ...PLACE, node: 'lab', storages: { disks: 'local', images: 'local', archives: 'local' } },
    ...{ namespace: 'homelab', image: 'web', run: 'mine', tool: '0', slot: 0 },
    owner: await thisOwner(),
    signal,
    emit: () => {},
    onLost: () => {},
  })
}

/** A guest without a disk, that runs. */
async function running(pve: Pve, vmid: number, more: Record<string, string> = {}): Promise<void> {
  const { qemu } = pve.api.nodes.$('lab')
  await pve.waitTask((await qemu.$post({ vmid, memory: '16', ...more })) as string, { seconds: 60 })
  await pve.waitTask((await qemu.$(vmid).status.start.$post()) as string, { seconds: 60 })
}

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'imagebuild-lab-stop-'))
  lab = await ensureLab({ dir, signal, emit: () => {}, stay: true })
})
afterEach(async () => {
  await stopLab(dir)
  await rm(dir, { recursive: true, force: true })
})

describe.skipIf(notRoot)(`lab stop${notRoot ? ' (skipped: needs root)' : ''}`, () => {
  test('while something is built, it refuses where nobody can be asked, and names --force', async () => {
    await using pve = await client()
    const held = await claim(pve)
    const { exitCode, stderr } = await imagebuild(['lab', 'stop'])
    expect(exitCode).toBe(75)
    expect(stderr).toMatch(new RegExp(`the build of web by process ${process.pid} on \\S+, since 20`))
    expect(stderr).toContain('imagebuild lab stop --force')
    expect(await labStatus(dir)).toMatchObject({ running: true, pid: lab.pid })
    await held[Symbol.asyncDispose]()
    expect(await imagebuild(['lab', 'stop'])).toMatchObject({ exitCode: 0 })
    expect(await labStatus(dir)).toEqual({ running: false })
  })

  test('with --force it asks nobody', async () => {
    await using pve = await client()
    await claim(pve)
    expect(await imagebuild(['lab', 'stop', '--force'])).toMatchObject({ exitCode: 0 })
    expect(await labStatus(dir)).toEqual({ running: false })
  })

  test('guests and clients are named, and end with it; a claim of the dead is nothing', async () => {
    await using pve = await client()
    const owner = { ...(await thisOwner()), pid: 2 ** 22, started: '1' }
    const note = { schema: 1, vmid: 9900, namespace: 'homelab', image: 'web', kind: 'vm', tool: '0' } as const
    const expires = Math.ceil(Date.now() / 1000) + 300
    const { qemu } = pve.api.nodes.$('lab')
    const dead = await qemu.$post({
      vmid: 9900,
      tags: toTags({ ...note, state: 'claim', expires }),
      description: renderNote({ ...note, run: 'dead', owner, expires }),
    })
    await pve.waitTask(dead as string, { seconds: 60 })
    await running(pve, 130, { name: 'shop' })
    await running(pve, 9001, {
      name: 'failed',
      tags: toTags({ vmid: 9001, namespace: 'homelab', image: 'web', state: 'kept', expires }),
    })
    const other = connectTls({
      port: Number(new URL(lab.endpoint).port),
      host: '127.0.0.1',
      rejectUnauthorized: false,
    })
    await new Promise((resolve) => other.once('secureConnect', resolve))
    other.on('error', () => {})
    const { exitCode, stderr } = await imagebuild(['lab', 'stop'])
    other.destroy()
    expect(exitCode).toBe(0)
    expect(stderr).toContain('  VM 130 (shop), which runs\n')
    expect(stderr).toContain('  VM 9001 (failed), which runs, and was kept after a failure\n')
    expect(stderr).toMatch(new RegExp(`the connection of .* \\(process ${process.pid}\\)`))
    expect(stderr).not.toContain('the build of')
    expect(await labStatus(dir)).toEqual({ running: false })
  })

  test('on a terminal it asks, and takes nothing but yes for that', async () => {
    await using pve = await client()
    await claim(pve)
    const no = await onTerminal(['lab', 'stop'], '\n')
    expect(no.stdout).toMatch(/the build of web by process[\s\S]*stop it\? \[y\/N\]/)
    expect(no.stdout).toContain('the lab goes on running')
    expect(no.exitCode).toBe(75)
    expect(await labStatus(dir)).toMatchObject({ running: true })
    const yes = await onTerminal(['lab', 'stop'], 'y\n')
    expect(yes.exitCode).toBe(0)
    expect(await labStatus(dir)).toEqual({ running: false })
  })

  test('one that nobody uses is stopped without a question', async () => {
    const { exitCode, stdout } = await onTerminal(['lab', 'stop'], '')
    expect([exitCode, stdout.trim()]).toEqual([0, 'the lab is stopped; its templates stay in its folder'])
  })
})

/** A disk that nothing boots from: a build waits for it until its lab is gone. */
async function project(): Promise<string> {
  const root = join(dir, 'project')
  const disk = join(root, 'empty.qcow2')
  await mkdir(join(root, 'images/web'), { recursive: true })
  await execa('qemu-img', ['create', '-f', 'qcow2', disk, '16M'])
  const digest = createHash('sha256')
    .update(await readFile(disk))
    .digest('hex')
  await writeFile(join(root, 'imagebuild.yaml'), 'namespace: e2e\ntargets:\n  lab: { kind: lab }\n')
  await writeFile(
    join(root, 'images/web/image.yaml'),
    `name: web\nsource: { url: 'file://${disk}', checksum: 'sha256:${digest}' }\nhardware: { memory: 64 }\n`,
  )
  return root
}

describe.skipIf(notRoot)(`a build${notRoot ? ' (skipped: needs root)' : ''}`, () => {
  test('whose lab is stopped says that, and who has done it', async () => {
    const building = imagebuild(['run', 'web', '--json'], await project())
    const booting = Promise.withResolvers<void>()
    building.stdout.on('data', (chunk) => {
      if (String(chunk).includes('"step":"boot"')) booting.resolve()
    })
    await Promise.race([booting.promise, building])
    const stop = imagebuild(['lab', 'stop', '--force'])
    await stop
    const { exitCode, stdout, stderr } = await building
    const { results } = JSON.parse(stdout.trimEnd().split('\n').at(-1) ?? '') as { results: RunResult[] }
    expect(exitCode).toBe(69)
    expect(results[0]?.error).toMatchObject({
      code: 'unreachable',
      what: `the lab in ${dir} was stopped (lab stop) while web was built`,
      why: expect.stringMatching(new RegExp(`^process ${stop.pid} stopped it at 20\\S+Z$`)),
      next: expect.stringMatching(/^run again/),
    })
    expect(stderr).toContain(`error: the lab in ${dir} was stopped (lab stop) while web was built`)
    // Nor do the guest, the seed and the claim, which it could not remove, speak of a lost connection.
    expect(stderr).toMatch(/VM 9000 on lab \(web\): the lab in \S+ was stopped/)
    expect(stderr).not.toMatch(/ECONN|connection/)
  })
})

describe.skipIf(notRoot)(`the end of a lab${notRoot ? ' (skipped: needs root)' : ''}`, () => {
  /** What whoever works on it is told. */
  async function told(end: 'SIGKILL' | 'SIGTERM'): Promise<Error> {
    using watched = watchLab(dir, lab.pid, signal)
    const ended = new Promise<Error>((resolve) =>
      watched.signal.addEventListener('abort', () => resolve(watched.signal.reason), { once: true }),
    )
    process.kill(lab.pid, end)
    return await ended
  }

  test('by a kill is told as that', async () => {
    expect(await told('SIGKILL')).toMatchObject({
      what: `the lab in ${dir} ended`,
      why: `its process ${lab.pid} was killed`,
      next: expect.stringContaining('daemon.log'),
    })
  })

  test('by a signal is told with that', async () => {
    expect(await told('SIGTERM')).toMatchObject({
      why: expect.stringMatching(new RegExp(`^its process ${lab.pid} ended at 20\\S+Z: SIGTERM$`)),
    })
  })

  test('explains a lost connection, and nothing else', async () => {
    using watched = watchLab(dir, lab.pid, signal)
    const of = (code: 'unreachable' | 'build_failed') => new ImagebuildError({ code, what: 'it broke' })
    const [lost, failed] = [of('unreachable'), of('build_failed')]
    expect(await watched.explain(lost)).toBe(lost)
    await stopLab(dir)
    expect(await watched.explain(lost)).toMatchObject({
      what: `the lab in ${dir} was stopped (lab stop)`,
      why: expect.stringContaining(`process ${process.pid} stopped it`),
    })
    // A lab that was started again is another one.
    lab = await ensureLab({ dir, signal, emit: () => {} })
    expect(existsSync(join(dir, 'stopped.json'))).toBe(false)
    using again = watchLab(dir, lab.pid, signal)
    expect(await again.explain(lost)).toBe(lost)
    expect(await again.explain(failed)).toBe(failed)
  })
})
