import { homedir } from 'node:os'
import { join } from 'node:path'

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
