import { ImagebuildError } from '../core/errors.ts'
import type { Emit } from '../core/events.ts'
import { guestLabel } from '../pve/guest-ref.ts'
import { currentNodes, promotable, promote } from '../pve/promotion.ts'
import { imageTemplates, select, type Template } from '../pve/templates.ts'
import { lockCurrent } from './locking.ts'
import type { Connected } from './target.ts'

/** Making another version of an image current, on all nodes of a target, because a person says so. */

export interface Switch extends Pick<Connected, 'pve' | 'places'> {
  /** the project's folder */
  root: string
  namespace: string
  image: string
  emit: Emit
  signal: AbortSignal
}

/** The image's templates on the nodes of the target, as they are at this moment. */
export async function templatesThere({ pve, places, namespace, image }: Switch): Promise<Template[]> {
  const nodes = places.map(({ node }) => node)
  const all = await imageTemplates(pve, { namespace, image, nodes })
  return all.filter(({ node }) => nodes.includes(node))
}

/**
 * @param templates what there is, as `templatesThere` gives it
 * @param held builds do not replace it
 * @returns one line that says what is current now
 * @throws ImagebuildError `not_found` where that version is on no node, or was never proven
 */
export async function switchTo(
  to: Switch,
  templates: readonly Template[],
  { version, held }: { version: string; held: boolean },
): Promise<string> {
  const { pve, places, image, emit } = to
  const before = select(templates, image)
  const nodes = places.map(({ node }) => node).filter((node) => select(templates, image, version, node))
  const found = nodes.map((node) => promotable(templates, image, version, node))
  // One on a shared storage is that of several nodes.
  const wanted = [...new Set(found.filter((template) => template !== undefined))]
  const [first] = wanted
  if (first === undefined || found.includes(undefined)) throw unproven(image, version, nodes.length > 0)
  for (const node of currentNodes(templates, image).filter((one) => !nodes.includes(one))) {
    const stays = select(templates, image, 'current', node)?.marks.version
    emit({ type: 'warning', image, message: `${node} has no ${version}: ${stays} stays current there` })
  }
  for (const template of wanted) {
    const { untidy } = await promote(pve, template, { held })
    for (const { message } of untidy) {
      const note = `${version} is current; another one could not be marked, which the next run or prune does`
      emit({ type: 'warning', image, message: `${note}: ${message}` })
    }
  }
  const current = wanted.map(({ node, vmid, marks }) => ({ node, vmid, version, digest: marks.digest ?? '' }))
  const target = places[0]?.target ?? ''
  await lockCurrent({ ...to, target }, { name: image, kind: first.kind }, current)
  const from = before === undefined || before.marks.version === version ? '' : `${before.marks.version} → `
  const where = wanted.map((one) => `${guestLabel(one)} on ${one.node}`).join(', ')
  return `${image}: ${from}${version} (${where})${held ? ', held' : ''}`
}

function unproven(image: string, version: string, isThere: boolean): ImagebuildError {
  if (!isThere) {
    return new ImagebuildError({
      code: 'not_found',
      what: `there is no version ${version} of ${image}`,
      next: `imagebuild history ${image} shows the versions that there are`,
    })
  }
  return new ImagebuildError({
    code: 'not_found',
    what: `version ${version} of ${image} is a candidate that is not proven`,
    why: 'verifying clones of it failed, or has not happened yet',
    next: `imagebuild run ${image} verifies it and promotes it, if its definition is still the same`,
  })
}
