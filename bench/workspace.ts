import { cp, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { stopLab } from '../src/lab/lab.ts'

export const ROOT = resolve(import.meta.dirname, '..')

/** The image that is measured: the one that is shipped, from a source that both sides can have. */
export const IMAGE = 'debian-base'

/** The source in its definition: Debian 13, bootstrapped from packages. */
const SOURCE = 'source:\n  bootstrap: { distribution: debian, suite: trixie }\n'

/** A project and a lab in a temporary folder. Its end stops the lab and removes everything. */
export interface Workspace extends AsyncDisposable {
  folder: string
  /** the project's folder */
  project: string
  /** environment for `imagebuild` */
  env: Record<string, string>
}

/** Below TMPDIR, which needs some gigabytes of room. The cache of bootstrapped systems is the user's own. */
export async function makeWorkspace(): Promise<Workspace> {
  const folder = await mkdtemp(join(tmpdir(), 'imagebuild-bench-'))
  const project = join(folder, 'project')
  const lab = join(folder, 'lab')
  await mkdir(project)
  for (const part of ['cloud-init', 'images'])
    await cp(join(ROOT, part), join(project, part), { recursive: true })
  const definition = join(project, 'images', IMAGE, 'image.yaml')
  const text = await readFile(definition, 'utf8')
  const changed = text.replace(/^source:\n(?:(?: .*)?\n)+/m, `${SOURCE}\n`)
  if (changed === text) throw new Error(`${IMAGE} has no source that could be replaced`)
  await writeFile(definition, changed)
  await writeFile(
    join(project, 'imagebuild.yaml'),
    'namespace: bench\ntarget: lab\ntargets:\n  lab: { kind: lab }\n',
  )
  return {
    folder,
    project,
    // Between two of our builds lies one of Packer's: the lab shall not end meanwhile.
    env: { IMAGEBUILD_LAB_DIR: lab, IMAGEBUILD_LAB_IDLE_SECONDS: '3600', CI: '', NO_COLOR: '1' },
    [Symbol.asyncDispose]: async () => {
      await stopLab(lab)
      await rm(folder, { recursive: true, force: true })
    },
  }
}
