import { nextVersion, nodeTemplates } from '../pve/templates.ts'
import { filenameOf, listFiles } from '../pve/volumes.ts'
import type { Build } from './context.ts'

/**
 * The version that this build will have. Asked under the claim, so nobody else takes it meanwhile. An archive outlives
 * its template where somebody removed only that: its version is not given again.
 */
export async function chooseVersion({ pve, image, place, namespace }: Build): Promise<string> {
  const templates = await nodeTemplates(pve, place.node, namespace)
  const taken = templates.flatMap(({ marks }) =>
    marks.image === image.name && marks.version !== undefined ? [marks.version] : [],
  )
  if (image.kind === 'lxc' && image.template.archive) {
    for (const file of await listFiles(pve, place, 'vztmpl')) {
      const name = filenameOf(file)
      const version =
        name.startsWith(`${image.name}-`) && name.slice(image.name.length + 1).replace(/\.tar\.zst$/, '')
      if (version) taken.push(version)
    }
  }
  return nextVersion(taken, new Date())
}
