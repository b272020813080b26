import { execFile } from 'node:child_process'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { GuestStore } from '../src/lab/api/guests/store.ts'
import { ensureLab, stopLab } from '../src/lab/lab.ts'
import { renderNote, toTags } from '../src/pve/marks.ts'
import type { Measured } from './statistics.ts'
import { median } from './statistics.ts'
import { ROOT } from './workspace.ts'

const run = promisify(execFile)

const ROUNDS = 11

/** Milliseconds of `rollback` beyond the start of the program. */
const LIMIT = 1000

const OWN = { namespace: 'bench', image: 'web' } as const

/** `rollback` in the lab, there and back again, beside a start of the program alone. */
export async function measureRollback(signal: AbortSignal): Promise<Measured[]> {
  const folder = await mkdtemp(join(tmpdir(), 'imagebuild-bench-rollback-'))
  const dir = join(folder, 'lab')
  try {
    await fill(join(dir, 'state/guests'))
    const { endpoint, fingerprint, token } = await ensureLab({ dir, signal, emit: () => {} })
    await writeFile(
      join(folder, 'imagebuild.yaml'),
      `namespace: ${OWN.namespace}
target: cluster
targets:
  cluster: { kind: pve, endpoint: '${endpoint}', fingerprint: '${fingerprint}', node: lab, storages: { disks: local, images: local } }
`,
    )
    const env = { ...process.env, CI: '', PROXMOX_VE_API_TOKEN: token }
    const timed = async (...args: string[]) => {
      const started = performance.now()
      const { stdout } = await run(join(ROOT, 'imagebuild'), args, { cwd: folder, env })
      return { stdout, ms: performance.now() - started }
    }
    const starts: number[] = []
    const rollbacks: number[] = []
    for (let round = -1; round < ROUNDS; round++) {
      // The first fills Node's compile cache.
      if (round === 0) for (const list of [starts, rollbacks]) list.length = 0
      starts.push((await timed('--version')).ms)
      const { stdout, ms } = await timed('rollback', OWN.image)
      if (!stdout.includes('20260102.1 → 20260101.1')) throw new Error(`rollback says ${stdout}`)
      rollbacks.push(ms)
      await timed('promote', `${OWN.image}@20260102.1`)
    }
    const beyond = median(rollbacks) - median(starts)
    return [
      { what: 'imagebuild rollback', figure: `${median(rollbacks).toFixed(0)} ms` },
      {
        what: 'beyond imagebuild --version',
        figure: `${beyond.toFixed(0)} ms`,
        limit: `at most ${LIMIT} ms`,
        kept: beyond <= LIMIT,
      },
    ]
  } finally {
    await stopLab(dir)
    await rm(folder, { recursive: true, force: true })
  }
}

/** Two versions of one image, without disks. */
async function fill(state: string): Promise<void> {
  await mkdir(state, { recursive: true, mode: 0o700 })
  const store = new GuestStore(state, 'lab')
  for (const [index, mark] of (['previous', 'current'] as const).entries()) {
    const vmid = 10_000 + index
    const version = `2026010${index + 1}.1`
    const guest = store.add(vmid, { name: `${OWN.image}-${index}`, cores: 1, memory: '512' })
    const marks = { ...OWN, vmid, version, state: mark, turn: index + 1 }
    const note = { ...OWN, schema: 1, vmid, version, kind: 'vm', tool: '0', run: 'bench' } as const
    const config = { template: 1, tags: toTags(marks), description: renderNote(note) }
    await store.save(Object.assign(guest, { config: { ...guest.config, ...config } }))
  }
}
