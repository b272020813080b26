import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { execa } from 'execa'
import { PACK, UNPACK } from '../src/archive/packing.ts'
import { writeTree } from './archive-tree.ts'
import { PeakMemory } from './peak-memory.ts'
import { type Measured, median } from './statistics.ts'
import { ROOT } from './workspace.ts'

const MIB = 2 ** 20
const SIZE = 1024 * MIB

/** Rounds of both, which take turns, so that whatever else the machine does hits both alike. */
const ROUNDS = 7

/** The rewriter may take so many times as long as the packers alone. */
const LIMIT = 1.3

/** Bytes that the rewriter's own process may occupy at its peak. */
const MEMORY = 150 * MIB

/** What rewriting the archive of a root file system costs, beside `zstd -d | zstd` with the same options. */
export async function measureArchive(signal: AbortSignal): Promise<Measured[]> {
  const folder = await mkdtemp(join(tmpdir(), 'imagebuild-bench-'))
  try {
    const input = join(folder, 'input.tar.zst')
    const output = join(folder, 'output.tar.zst')
    await writeTree(input, SIZE, signal)
    const program = join(import.meta.dirname, 'rewrite-archive.ts')
    const packers = `${UNPACK.zst.join(' ')} <"$1" | ${PACK.join(' ')} >"$2"`
    const alone: number[] = []
    const ours: number[] = []
    const peaks: number[] = []
    const trees: number[] = []
    for (let round = 0; round < ROUNDS; round++) {
      alone.push(
        await seconds(() => execa('sh', ['-c', packers, 'sh', input, output], { cancelSignal: signal })),
      )
      ours.push(
        await seconds(async () => {
          // As the wrapper starts it for `run`.
          const running = execa(process.execPath, ['--max-semi-space-size=2', program, input, output], {
            cancelSignal: signal,
            env: { NODE_COMPILE_CACHE: join(ROOT, 'node_modules/.cache/compile'), MALLOC_ARENA_MAX: '1' },
          })
          using tree = new PeakMemory(running.pid as number)
          const { stdout } = await running
          peaks.push(Number(stdout))
          trees.push(tree.peak)
        }),
      )
    }
    const ratio = median(ours.map((one, round) => one / (alone[round] as number)))
    const peak = Math.max(...peaks)
    return [
      { what: 'zstd -d | zstd, 1 GiB', figure: `${median(alone).toFixed(2)} s` },
      { what: 'archive rewritten, 1 GiB', figure: `${median(ours).toFixed(2)} s` },
      { what: 'their ratio', figure: ratio.toFixed(2), limit: `at most ${LIMIT}`, kept: ratio <= LIMIT },
      {
        what: 'peak memory of the rewriter',
        figure: `${(peak / MIB).toFixed(0)} MiB`,
        limit: `below ${MEMORY / MIB} MiB`,
        kept: peak < MEMORY,
      },
      {
        what: 'with its two packers',
        figure: `${(Math.max(...trees) / MIB).toFixed(0)} MiB`,
      },
    ]
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

async function seconds(work: () => PromiseLike<unknown>): Promise<number> {
  const started = performance.now()
  await work()
  return (performance.now() - started) / 1000
}
