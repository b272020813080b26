import { chmod, lstat, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { ImagebuildError } from '../core/errors.ts'
import { makeFolder } from '../core/make-folder.ts'
import type { SystemFile } from './bootstrap-files.ts'

/**
 * What everybody in a system must be able to pass through or read, as Debian and Ubuntu ship it, and what nobody else may.
 * A service under its own account fails on any of these, minutes after the system was made and far from the reason.
 */
const MODES: Readonly<Record<string, number>> = {
  '': 0o755,
  etc: 0o755,
  'etc/apt': 0o755,
  'etc/group': 0o644,
  'etc/passwd': 0o644,
  'etc/shadow': 0o640,
  'etc/ssh': 0o755,
  'etc/systemd': 0o755,
  'etc/systemd/system': 0o755,
  home: 0o755,
  root: 0o700,
  run: 0o755,
  tmp: 0o1777,
  usr: 0o755,
  'usr/bin': 0o755,
  'usr/lib': 0o755,
  'usr/share': 0o755,
  var: 0o755,
  'var/cache': 0o755,
  'var/lib': 0o755,
  'var/lib/dpkg': 0o755,
  'var/tmp': 0o1777,
}

/** Writes the files below a folder, which are the system's for everybody to read, whatever the umask. */
export async function layOutFiles(files: readonly SystemFile[], folder: string): Promise<void> {
  await makeFolder(folder)
  for (const file of files) {
    const target = join(folder, file.path)
    await makeFolder(dirname(target))
    await writeFile(target, file.content)
    await chmod(target, modeOf(file))
  }
}

/**
 * Looks at the modes in a system that is about to enter the cache, where it would be taken for good by every later build.
 * @param files that were laid into it
 * @throws ImagebuildError `build_failed` that names each path with its mode and the one that it must have
 */
export async function requireModes(files: readonly SystemFile[], root: string): Promise<void> {
  const wanted = new Map(Object.entries(MODES))
  for (const file of files) {
    const path = file.path.replace(/^\/+/, '')
    wanted.set(path, modeOf(file))
    for (let folder = dirname(path); folder !== '.'; folder = dirname(folder)) {
      if (!wanted.has(folder)) wanted.set(folder, 0o755)
    }
  }
  const wrong: string[] = []
  for (const [path, mode] of wanted) {
    const found = await lstat(join(root, path)).catch(() => undefined)
    // What a hook has removed or made a link says nothing.
    if (found === undefined || found.isSymbolicLink() || (found.mode & 0o7777) === mode) continue
    wrong.push(`/${path} has ${octal(found.mode & 0o7777)}, not ${octal(mode)}`)
  }
  if (wrong.length === 0) return
  throw new ImagebuildError({
    code: 'build_failed',
    what: 'the bootstrapped system has wrong modes, and is not kept',
    why: wrong.join('; '),
    next: 'look for a default ACL on the folder of the cache (`getfacl`), or set IMAGEBUILD_CACHE_DIR to another file system',
  })
}

function modeOf({ executable }: SystemFile): number {
  return executable ? 0o755 : 0o644
}

function octal(mode: number): string {
  return mode.toString(8).padStart(4, '0')
}
