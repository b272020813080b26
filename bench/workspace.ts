import { cp, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { stopLab } from '../src/lab/lab.ts'
import type { CachedFile } from '../src/source/context.ts'

export const ROOT = resolve(import.meta.dirname, '..')

/** What is measured: the image that is shipped, without its hardening, and as it is. */
export const IMAGES = { plain: 'plain', hardened: 'hardened' } as const

/** A project and a lab in a temporary folder. Its end stops the lab and removes everything. */
export interface Workspace extends AsyncDisposable {
  folder: string
  /** the project's folder */
  project: string
  /** environment for `imagebuild` */
  env: Record<string, string>
}

/**
 * Below TMPDIR, which needs some gigabytes of room.
 * @param disk that its images begin with; without one there are none
 */
export async function makeWorkspace(disk?: CachedFile): Promise<Workspace> {
  const folder = await mkdtemp(join(tmpdir(), 'imagebuild-bench-'))
  const project = join(folder, 'project')
  const lab = join(folder, 'lab')
  await mkdir(project)
  if (disk !== undefined) await addImages(project, disk)
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

async function addImages(project: string, disk: CachedFile): Promise<void> {
  await cp(join(ROOT, 'cloud-init'), join(project, 'cloud-init'), { recursive: true })
  for (const name of Object.values(IMAGES)) {
    const image = join(project, 'images', name)
    await cp(join(ROOT, 'images/debian-base'), image, { recursive: true })
    const definition = join(image, 'image.yaml')
    const source = `source:\n  url: file://${disk.path}\n  checksum: ${disk.digest}\n\n`
    let text = replaced(await readFile(definition, 'utf8'), /^source:\n(?:(?: .*)?\n)+/m, source)
    text = replaced(text, /^name: .*/m, `name: ${name}`)
    // The lab has a CA of its own, of which the others know nothing.
    if (name === IMAGES.plain) text = replaced(text, /^hardening: .*/m, 'hardening: none\nssh: { ca: [] }')
    await writeFile(definition, text)
  }
}

function replaced(text: string, pattern: RegExp, by: string): string {
  const changed = text.replace(pattern, by)
  if (changed === text) throw new Error(`the shipped image has nothing like ${pattern}`)
  return changed
}
