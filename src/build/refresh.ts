import type { Layer } from '../definition/spec.ts'
import type { Note } from '../pve/marks.ts'
import type { Template } from '../pve/templates.ts'
import { type Build, during } from './context.ts'
import type { Provisioning } from './layer-run.ts'
import { readPackageList } from './package-lists.ts'
import { provision } from './provision.ts'
import { PACKAGES } from './records.ts'

/**
 * A build of what has not changed, so that what its packages come from has: it starts from a system of today, and upgrades all
 * packages before anything else. None of it is in the digest.
 */

/** Seconds; the largest upgrades of an emulated machine take half of it. */
const UPGRADE_SECONDS = 3600
const LOOK_SECONDS = 60

/** The first that is done in the guest. A system without apt-get has nothing that could be upgraded so. */
export async function upgradeFirst(build: Build, to: Provisioning): Promise<void> {
  if (build.options.refresh === undefined) return
  const layer: Layer = {
    ...{ kind: 'packages', name: 'upgrade of all packages', where: build.image.source.where },
    ...{ install: [], remove: [], upgrade: true, timeoutSeconds: UPGRADE_SECONDS },
  }
  await during(build, 'layer', 'upgrading all packages', async () => {
    const { code } = await to.session.run('command -v apt-get', { seconds: LOOK_SECONDS, signal: to.signal })
    if (code === 0) await provision(layer, to)
  })
}

/**
 * Whether a template with the same digest has what a refresh is for already, as one has that another run has just made. One
 * whose list of packages is not here, or is another one, is not believed to.
 */
export async function isMended(
  { options: { refresh }, root, reportsDir, place }: Build,
  { marks, node }: Template,
  note: Note,
): Promise<boolean> {
  if (refresh === undefined) return true
  const of = { image: marks.image, version: marks.version ?? '', node }
  const at = { root, target: place.target, reportsDir }
  const list = await readPackageList(at, of, note.artifacts?.[PACKAGES])
  return list !== undefined && refresh.mends(note, list.packages)
}
