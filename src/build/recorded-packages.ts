import pLimit from 'p-limit'
import { asImagebuildError } from '../core/errors.ts'
import type { Note } from '../pve/marks.ts'
import { placesTemplates, readNote, select, type Template } from '../pve/templates.ts'
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

/** Notes that are asked for at once. */
const AT_ONCE = 8

/** The current templates of these images on each node, with their records: by image. Asks each node for its templates once. */
export async function recordedPackages(requests: readonly BuildRequest[]): Promise<Map<string, Recorded[]>> {
  const [first] = requests
  if (first === undefined) return new Map()
  const { pve, place, places = [place], namespace } = first
  const nodes = places.map(({ node }) => node)
  const all = await placesTemplates(pve, nodes, namespace)
  const limit = pLimit(AT_ONCE)
  const found = requests.map(async (request): Promise<[string, Recorded[]]> => {
    const { name } = request.image
    const current = nodes.flatMap((node) => select(all, name, 'current', node) ?? [])
    const unique = [...new Map(current.map((template) => [template.vmid, template])).values()]
    return [name, await Promise.all(unique.map((template) => limit(() => recordOf(request, template))))]
  })
  return new Map(await Promise.all(found))
}

async function recordOf(
  { pve, root, reportsDir, place }: BuildRequest,
  template: Template,
): Promise<Recorded> {
  const note = await readNote(pve, template)
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
