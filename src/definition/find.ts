import { stat } from 'node:fs/promises'
import { dirname, join, resolve } from 'node:path'
import { ImagebuildError } from '../core/errors.ts'

export const CONFIG_FILE = 'imagebuild.yaml'

/**
 * The imagebuild.yaml that counts: the explicit one (a file, or the folder that holds it), else that of
 * IMAGEBUILD_CONFIG, else the nearest one from `cwd` upward.
 * @throws ImagebuildError `definition_invalid` when there is none
 */
export async function findConfig(cwd: string, explicit = process.env.IMAGEBUILD_CONFIG): Promise<string> {
  if (explicit) {
    const named = resolve(cwd, explicit)
    const found = (await isFile(named)) ? named : join(named, CONFIG_FILE)
    if (await isFile(found)) return found
    throw missing(`there is no ${named}`, 'name an imagebuild.yaml with --config or IMAGEBUILD_CONFIG')
  }
  for (let folder = resolve(cwd); ; folder = dirname(folder)) {
    const candidate = join(folder, CONFIG_FILE)
    if (await isFile(candidate)) return candidate
    if (folder === dirname(folder)) break
  }
  throw missing(
    `there is no ${CONFIG_FILE} in ${resolve(cwd)} or any folder above it`,
    'change into the folder of your images, or name the file with --config',
  )
}

function missing(what: string, next: string): ImagebuildError {
  return new ImagebuildError({ code: 'definition_invalid', what, next })
}

async function isFile(path: string): Promise<boolean> {
  const found = await stat(path).catch(() => undefined)
  return found?.isFile() ?? false
}
