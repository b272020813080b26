import { readdir, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { makeFolder } from '../core/make-folder.ts'
import { quote } from '../core/shell-word.ts'
import type { BootstrapRecipe } from './bootstrap-recipe.ts'
import type { SourceContext } from './context.ts'

/** Packages that no bootstrap has used for so long are removed; a point release replaces most of them. */
const KEEP_DAYS = 60

export interface PackageCache extends AsyncDisposable {
  /** options for mmdebstrap, by which it finds what was kept */
  options: string[]
  /** command for its customize hook, once all packages are downloaded */
  keep: string
}

/**
 * Keeps the downloaded .deb files of one suite and architecture between bootstraps, in `<cacheDir>/apt`.
 * apt itself compares each with the checksum in the signed package list before it is used, so the cache need
 * not be trusted. Several bootstraps may use it at once: files are only ever added complete, by rename.
 */
export async function withPackageCache(
  { distribution, suite, arch }: BootstrapRecipe,
  { cacheDir }: SourceContext,
): Promise<PackageCache> {
  const folder = join(cacheDir, 'apt', `${distribution}-${suite}-${arch}`)
  await makeFolder(folder)
  const kept = quote(folder)
  const archives = '"$1"/var/cache/apt/archives'
  return {
    options: [
      '--skip=download/empty',
      // mmdebstrap deletes what it has installed unless told otherwise, before it could be kept.
      '--skip=essential/unlink',
      `--setup-hook=mkdir -p ${archives} && find ${kept} -name '*.deb' -exec cp -t ${archives} -- {} +`,
      '--aptopt=APT::Keep-Downloaded-Packages "true"',
    ],
    // Complete under its own name at once: copy under a name of this process, then rename.
    keep: `for deb in ${archives}/*.deb; do name=\${deb##*/}; cp -- "$deb" ${kept}/".$$.$name" && mv -- ${kept}/".$$.$name" ${kept}/"$name"; done`,
    async [Symbol.asyncDispose]() {
      const oldest = Date.now() - KEEP_DAYS * 24 * 3600 * 1000
      for (const name of await readdir(folder)) {
        const path = join(folder, name)
        const found = await stat(path).catch(() => undefined)
        if (found && found.mtimeMs < oldest) await rm(path, { force: true })
      }
    },
  }
}
