import { readFileSync, realpathSync, statSync } from 'node:fs'
import { resolve, sep } from 'node:path'

/** Largest file that a layer may carry, in bytes: it goes through memory, a digest and SFTP. */
export const LARGEST_FILE = 64 * 2 ** 20

/**
 * Reads a file that a definition names. What lies outside of the definition's folder, by `..` or by a symbolic
 * link, is refused: it would not be there on the next machine, and a definition from elsewhere must not be
 * able to pull in a private key. Reads at once, as YamlFile does.
 */
export function readNamedFile(
  folder: string,
  name: string,
): { path: string; bytes: Uint8Array } | { mistake: string; hint?: string } {
  const path = resolve(folder, name)
  if (!path.startsWith(folder + sep)) {
    return { mistake: `\`${name}\` is outside of the image’s folder`, hint: `copy it into ${folder}` }
  }
  try {
    const real = realpathSync.native(path)
    if (!real.startsWith(realpathSync.native(folder) + sep)) {
      return {
        mistake: `\`${name}\` is a link to ${real}, outside of the image’s folder`,
        hint: 'put the file itself there',
      }
    }
    const found = statSync(real)
    if (found.isDirectory()) return { mistake: `\`${name}\` is a folder`, hint: 'name one file per layer' }
    if (!found.isFile()) return { mistake: `\`${name}\` is not a plain file` }
    if (found.size > LARGEST_FILE) {
      return {
        mistake: `\`${name}\` is larger than ${LARGEST_FILE / 2 ** 20} MiB`,
        hint: 'let a shell layer download it, or make it a package',
      }
    }
    return { path, bytes: readFileSync(real) }
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException
    return {
      mistake:
        code === 'ENOENT' ? `there is no \`${name}\` in ${folder}` : `\`${name}\` cannot be read: ${message}`,
    }
  }
}
