import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { promisify } from 'node:util'
import type { Measured } from './statistics.ts'
import { median } from './statistics.ts'
import { ROOT } from './workspace.ts'

const run = promisify(execFile)

/** Starts of each program; they take turns, so that whatever else the machine does hits both alike. */
const STARTS = 40

/** `imagebuild --version` may cost so many times a bare `node -e 0` of the same Node. */
const LIMIT = 2

/** What a start of imagebuild costs: medians of wall time, and their ratio. */
export async function measureStartup(): Promise<Measured[]> {
  const node = await sameNode()
  const bare: number[] = []
  const ours: number[] = []
  const program = join(ROOT, 'imagebuild')
  // The first one may have to set itself up, and fills Node's compile cache.
  await run(program, ['--version'])
  await run(node, ['-e', '0'])
  for (let start = 0; start < STARTS; start++) {
    bare.push(await milliseconds(node, ['-e', '0']))
    ours.push(await milliseconds(program, ['--version']))
  }
  const ratio = median(ours) / median(bare)
  return [
    { what: 'node -e 0', figure: `${median(bare).toFixed(1)} ms` },
    { what: 'imagebuild --version', figure: `${median(ours).toFixed(1)} ms` },
    { what: 'their ratio', figure: ratio.toFixed(2), limit: `at most ${LIMIT}`, kept: ratio <= LIMIT },
  ]
}

async function milliseconds(program: string, args: readonly string[]): Promise<number> {
  const started = performance.now()
  await run(program, args)
  return performance.now() - started
}

/** The one that the wrapper script takes. */
export async function sameNode(): Promise<string> {
  const { stdout } = await run('sh', [
    '-c',
    'root=$1; . "$root/src/cli/node.sh"; command -v node',
    'sh',
    ROOT,
  ])
  return stdout.trim()
}
