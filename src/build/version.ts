import { byVersion, imageTemplates, nextVersion } from '../pve/templates.ts'
import { filenameOf, listFiles } from '../pve/volumes.ts'
import type { Build } from './context.ts'
import type { Found } from './leftovers.ts'

/** On several nodes a version is one: what is finished on some of them already says which. */
export async function versionFor(
  builds: readonly Build[],
  found: ReadonlyMap<Build, Found>,
): Promise<string> {
  const [first] = builds
  if (first === undefined) throw new TypeError('there is no node to build on')
  if (!first.options.force) {
    const there = [...found.values()].flatMap(({ current, candidate }) => current ?? candidate ?? [])
    const version = there.sort(byVersion).at(-1)?.marks.version
    if (version !== undefined) return version
  }
  return await chooseVersion(builds)
}

/**
 * The version that this build will have. Asked under the claim, so nobody else takes it meanwhile. An archive outlives
 * its template where somebody removed only that: its version is not given again.
 */
async function chooseVersion(builds: readonly Build[]): Promise<string> {
  const [{ pve, image, namespace }] = builds as [Build]
  const nodes = builds.map(({ place }) => place.node)
  const templates = await imageTemplates(pve, { namespace, image: image.name, nodes })
  const taken = templates.flatMap(({ marks }) => marks.version ?? [])
  for (const { place } of image.kind === 'lxc' && image.template.archive ? builds : []) {
    for (const file of await listFiles(pve, place, 'vztmpl')) {
      const name = filenameOf(file)
      const version =
        name.startsWith(`${image.name}-`) &&
        name.slice(image.name.length + 1).replace(/(-[A-Za-z0-9-]+)?\.tar\.zst$/, '')
      if (version) taken.push(version)
    }
  }
  return nextVersion(taken, pve.clock.date())
}
