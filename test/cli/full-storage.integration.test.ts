import { createHash, randomBytes } from 'node:crypto'
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { execa } from 'execa'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { RunResult } from '../../src/core/events.ts'
import { ensureLab, type LabConnection, stopLab } from '../../src/lab/lab.ts'
import { connect } from '../../src/pve/client.ts'

/** A real lab whose storage for disks takes less than the source image has written. */

const MAIN = resolve(import.meta.dirname, '../../src/cli/main.ts')
const MIB = 2 ** 20
const { signal } = new AbortController()
const notRoot = process.getuid?.() !== 0

let dir: string
let lab: LabConnection

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'imagebuild-full-'))
  await mkdir(join(dir, 'lab'))
  const storages = [
    { id: 'local', type: 'dir', content: ['iso', 'import'] },
    { id: 'tight', type: 'lvmthin', content: ['images'], limit: 8 * MIB },
  ]
  await writeFile(join(dir, 'lab/config.json'), JSON.stringify({ storages }))
  lab = await ensureLab({ dir: join(dir, 'lab'), signal, emit: () => {} })
  await mkdir(join(dir, 'images/web'), { recursive: true })
  const [raw, disk] = [join(dir, 'disk.raw'), join(dir, 'disk.qcow2')]
  await writeFile(raw, randomBytes(9 * MIB))
  await execa('truncate', ['--size=64M', raw])
  await execa('qemu-img', ['convert', '-O', 'qcow2', raw, disk])
  const digest = createHash('sha256')
    .update(await readFile(disk))
    .digest('hex')
  await writeFile(
    join(dir, 'imagebuild.yaml'),
    'namespace: e2e\ntargets:\n  lab: { kind: lab, storages: { disks: tight, images: local } }\n',
  )
  await writeFile(
    join(dir, 'images/web/image.yaml'),
    `name: web\nsource: { url: 'file://${disk}', checksum: 'sha256:${digest}' }\nhardware: { memory: 64 }\n`,
  )
})
afterEach(async () => {
  await stopLab(join(dir, 'lab'))
  await rm(dir, { recursive: true, force: true })
})

describe.skipIf(notRoot)(`a full storage${notRoot ? ' (skipped: needs root)' : ''}`, () => {
  test('ends a build before its guest is created, and says what is needed and what is there', async () => {
    const env = {
      ...{ IMAGEBUILD_LAB_DIR: join(dir, 'lab'), IMAGEBUILD_CACHE_DIR: join(dir, 'cache') },
      ...{ NO_COLOR: '1', CI: '', IMAGEBUILD_VERIFY: 'off' },
    }
    const run = await execa(process.execPath, [MAIN, 'run', 'web', '--json'], {
      ...{ cwd: dir, env, reject: false, stdin: 'ignore' },
    })
    const events = run.stdout
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line))
    const { results } = events.at(-1) as { results: RunResult[] }
    expect(run.exitCode).toBe(75)
    expect(results[0]?.error).toMatchObject({
      code: 'busy',
      what: 'storage tight on lab has no room for building web',
      why: expect.stringMatching(
        /^9\.\d MiB are needed at least, and 8\.0 MiB are there:\n.*may grow to 64\.0 MiB$/,
      ),
    })
    expect(events.filter(({ step }) => step === 'create')).toEqual([])
    await using pve = await connect({
      endpoint: lab.endpoint,
      auth: { kind: 'token', token: lab.token },
      tls: { fingerprint: lab.fingerprint },
      signal,
    })
    expect(await pve.api.nodes.$('lab').qemu.$get()).toEqual([])
  })
})
