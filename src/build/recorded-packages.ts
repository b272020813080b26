import { asImagebuildError } from '../core/errors.ts'
import type { Glance } from '../pve/glance.ts'
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

/** The current templates of an image on each node, with their records. */
export async function recordedPackages(
  request: Pick<BuildRequest, 'image' | 'place' | 'places' | 'root' | 'reportsDir'>,
  glance: Glance,
): Promise<Recorded[]> {
  const { image, place, places = [place] } = request
  const current = places.flatMap(({ node }) => select(glance.templates, image.name, 'current', node) ?? [])
  const unique = [...new Map(current.map((template) => [template.vmid, template])).values()]
  return await Promise.all(
    unique.map(async (template) => await recordOf(request, template, await glance.note(template))),
  )
}

async function recordOf(
  { root, reportsDir, place }: Pick<BuildRequest, 'root' | 'reportsDir' | 'place'>,
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
