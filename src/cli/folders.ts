import { homedir } from 'node:os'
import { join, resolve } from 'node:path'
import { ImagebuildError } from '../core/errors.ts'

/** Folders outside the project, by the XDG base directory specification. */

/** The lab's state: IMAGEBUILD_LAB_DIR, else below the state home. */
export function labFolder(): string {
  return (
    process.env.IMAGEBUILD_LAB_DIR ??
    join(process.env.XDG_STATE_HOME ?? join(homedir(), '.local/state'), 'imagebuild/lab')
  )
}

/** Downloads and bootstrapped systems: IMAGEBUILD_CACHE_DIR, else below the cache home. */
export function cacheFolder(): string {
  return (
    process.env.IMAGEBUILD_CACHE_DIR ??
    join(process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'imagebuild')
  )
}

/** What builds leave for people to read, in the project. */
export function buildFolder(root: string): string {
  return join(root, '.imagebuild')
}

/** Reports of the builds for one target: `<image>/<version>/verify.json`. */
export function reportsFolder(root: string, target: string): string {
  return join(buildFolder(root), 'builds', target)
}

const REFUSALS = ['EACCES', 'EPERM', 'EROFS', 'EEXIST', 'ENOTDIR', 'ENOSPC']

/** A file error in the lab's or the cache's folder, in words that name the variable; anything else as it is. */
export function explainFolder(thrown: unknown): unknown {
  const { code = '', path, syscall, message } = (thrown ?? {}) as NodeJS.ErrnoException
  if (typeof path !== 'string') return thrown
  // A file that is missing is somebody's defect; a folder that cannot be made is not: /proc says so of all.
  if (!REFUSALS.includes(code) && !(code === 'ENOENT' && syscall === 'mkdir')) return thrown
  const folders = { IMAGEBUILD_LAB_DIR: labFolder(), IMAGEBUILD_CACHE_DIR: cacheFolder() }
  for (const [variable, folder] of Object.entries(folders)) {
    const whole = resolve(folder)
    if (!`${path}/`.startsWith(`${whole}/`) && !whole.startsWith(`${path}/`)) continue
    return new ImagebuildError({
      code: 'prerequisite_missing',
      what: `the folder ${whole} cannot be used`,
      why: message,
      next: code === 'ENOSPC' ? `make room, or set ${variable}` : `set ${variable} to a folder of yours`,
      cause: thrown,
    })
  }
  return thrown
}
