import { asImagebuildError } from '../core/errors.ts'
import { type Glance, takeGlance } from '../pve/glance.ts'
import type { Note } from '../pve/marks.ts'
import { select, type Template } from '../pve/templates.ts'
import type { PackageList } from '../updates/package-list.ts'
import type { BuildRequest } from './context.ts'
import { readPackageList } from './package-lists.ts'
import { PACKAGES } from './records.ts'

/** A current template, and what is recorded of the packages in it. */
export interface Recorded {
  template: Template
  note: Note | undefined
  /** whether its build wrote its packages down at all: earlier versions of imagebuild did not */
  isRecorded: boolean
  /** the record, where it is here and is the one that the note means */
  packages?: PackageList
  /** why it cannot be read, although it is */
  problem?: string
}

/**
 * The current templates of these images on each node, with their records: by image.
 * @param known what there is, where that was asked already
 */
export async function recordedPackages(
  requests: readonly BuildRequest[],
  known?: Glance,
): Promise<Map<string, Recorded[]>> {
  const [first] = requests
  if (first === undefined) return new Map()
  const { pve, place, places = [place], namespace } = first
  const nodes = places.map(({ node }) => node)
  const glance = known ?? (await takeGlance(pve, { namespace, nodes }))
  const found = requests.map(async (request): Promise<[string, Recorded[]]> => {
    const { name } = request.image
    const current = nodes.flatMap((node) => select(glance.templates, name, 'current', node) ?? [])
    const unique = [...new Map(current.map((template) => [template.vmid, template])).values()]
    const records = unique.map(async (template) => recordOf(request, template, await glance.note(template)))
    return [name, await Promise.all(records)]
  })
  return new Map(await Promise.all(found))
}

async function recordOf(
  { root, reportsDir, place }: BuildRequest,
  template: Template,
  note: Note | undefined,
): Promise<Recorded> {
  const sha256 = note?.artifacts?.[PACKAGES]
  const { marks, node } = template
  const of = { image: marks.image, version: marks.version ?? '', node }
  const recorded = { template, note, isRecorded: sha256 !== undefined }
  try {
    const packages = await readPackageList({ root, target: place.target, reportsDir }, of, sha256)
    return { ...recorded, ...(packages && { packages }) }
  } catch (error) {
    return { ...recorded, problem: asImagebuildError(error).message }
  }
}
