import { execFile } from 'node:child_process'
import { cp, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { ensureLab } from '../src/lab/lab.ts'
import { sameNode } from './startup.ts'
import { type Measured, median } from './statistics.ts'
import { makeWorkspace, ROOT } from './workspace.ts'

const run = promisify(execFile)

/** Definitions like the one that is shipped, each with the files that it names. */
export const DEFINITIONS = 200
const ROUNDS = 7

/** `validate` may take so many times what a process takes that reads the same files as YAML and does nothing else. */
const VALIDATE_LIMIT = 3.5
/** `plan`, which asks the lab about each of them as well. */
const PLAN_LIMIT = 8

/** `validate` and `plan` of many definitions, beside a process that parses their YAML once. */
export async function measureDefinitions(signal: AbortSignal): Promise<Measured[]> {
  await using workspace = await makeWorkspace()
  const images = join(workspace.project, 'images')
  await fill(workspace.project)
  const env = { ...process.env, ...workspace.env }
  await ensureLab({ dir: workspace.env.IMAGEBUILD_LAB_DIR ?? '', signal, emit: () => {} })
  const node = await sameNode()
  const NODE_COMPILE_CACHE = join(ROOT, 'node_modules/.cache/compile')
  const milliseconds = async (program: string, args: readonly string[]) => {
    const started = performance.now()
    await run(program, args, {
      cwd: workspace.project,
      env: { ...env, NODE_COMPILE_CACHE },
      signal,
      maxBuffer: 2 ** 26,
    })
    return performance.now() - started
  }
  const parse: number[] = []
  const validate: number[] = []
  const plan: number[] = []
  for (let round = -1; round < ROUNDS; round++) {
    // The first fills Node's compile cache.
    if (round === 0) for (const list of [parse, validate, plan]) list.length = 0
    parse.push(await milliseconds(node, [join(ROOT, 'bench/parse-definitions.ts'), images]))
    validate.push(await milliseconds(join(ROOT, 'imagebuild'), ['validate']))
    plan.push(await milliseconds(join(ROOT, 'imagebuild'), ['plan']))
  }
  const row = (what: string, times: readonly number[], limit: number): Measured[] => {
    const ratio = median(times.map((one, index) => one / (parse[index] as number)))
    return [
      { what: `${what} of ${DEFINITIONS} definitions`, figure: `${median(times).toFixed(0)} ms` },
      {
        what: `${what}: times parsing their YAML`,
        figure: ratio.toFixed(2),
        limit: `at most ${limit}`,
        kept: ratio <= limit,
      },
    ]
  }
  return [
    { what: `parsing the YAML of ${DEFINITIONS} definitions`, figure: `${median(parse).toFixed(0)} ms` },
    ...row('validate', validate, VALIDATE_LIMIT),
    ...row('plan', plan, PLAN_LIMIT),
  ]
}

/** The shipped image many times, from packages: nothing is asked of the servers of cloud images. */
export async function fill(project: string): Promise<void> {
  await cp(join(ROOT, 'cloud-init'), join(project, 'cloud-init'), { recursive: true })
  const model = join(ROOT, 'images/debian-base')
  const source = 'source:\n  bootstrap: { distribution: debian, suite: trixie }\n\n'
  const text = (await readFile(join(model, 'image.yaml'), 'utf8')).replace(
    /^source:\n(?:(?: .*)?\n)+/m,
    source,
  )
  for (let index = 0; index < DEFINITIONS; index++) {
    const folder = join(project, 'images', `web-${index}`)
    await cp(model, folder, { recursive: true })
    await writeFile(join(folder, 'image.yaml'), text.replace(/^name: .*$/m, `name: web-${index}`))
  }
}
