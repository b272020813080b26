import { formatTable } from '../src/cli/table.ts'
import { measureArchive } from './archive.ts'
import { measureCiPlan } from './ci-plan.ts'
import { measureDefinitions } from './definitions.ts'
import { interruptSignal } from './interrupt.ts'
import { measureResolve } from './resolve.ts'
import { measureRollback } from './rollback.ts'
import { measureStartup } from './startup.ts'
import type { Measured } from './statistics.ts'
import { measureStreaming } from './streaming.ts'

/** `npm run bench [startup|resolve|definitions|ci-plan|rollback|memory|archive]`: what the tool itself costs. Ends with 1 when a limit is broken. */
const BENCHMARKS = {
  startup: measureStartup,
  resolve: measureResolve,
  definitions: measureDefinitions,
  'ci-plan': measureCiPlan,
  rollback: measureRollback,
  memory: measureStreaming,
  archive: measureArchive,
}

const asked = process.argv.slice(2)
const unknown = asked.find((name) => !Object.hasOwn(BENCHMARKS, name))
if (unknown !== undefined)
  throw new Error(`there is no benchmark ${unknown}: ${Object.keys(BENCHMARKS).join(', ')}`)

const signal = interruptSignal()

const figures: Measured[] = []
for (const [name, measure] of Object.entries(BENCHMARKS)) {
  if (asked.length === 0 || asked.includes(name)) figures.push(...(await measure(signal)))
}
const rows = figures.map(({ what, figure, limit = '', kept }) => ({
  what,
  figure,
  limit,
  result: kept === undefined ? '' : kept ? 'pass' : 'FAIL',
}))
process.stdout.write(formatTable(['what', 'figure', 'limit', 'result'], rows))
process.exitCode = figures.some(({ kept }) => kept === false) ? 1 : 0
