import { fixedVmidOn, requireFixedVmid } from '../build/fixed-vmid.ts'
import { swapPrivileges } from '../build/privileges.ts'
import { swap } from '../build/swap.ts'
import { asImagebuildError, ImagebuildError } from '../core/errors.ts'
import type { Emit } from '../core/events.ts'
import { guestLabel } from '../pve/guest-ref.ts'
import { currentNodes, promotable, promote } from '../pve/promotion.ts'
import { imageTemplates, select, type Template } from '../pve/templates.ts'
import { lockCurrent } from './locking.ts'
import { formatSeconds } from './render.ts'
import type { Connected } from './target.ts'

/** Making another version of an image current, on all nodes of a target, because a person says so. */

export interface Switch extends Pick<Connected, 'pve' | 'places'> {
  /** the project's folder */
  root: string
  namespace: string
  image: string
  emit: Emit
  signal: AbortSignal
  /** version of imagebuild */
  tool: string
  /** `template.vmid` of the image, as its definition says it */
  vmid: number | Readonly<Record<string, number>> | undefined
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
  const { places, image, emit } = to
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
  await requireRoom(to, wanted)
  const now: Switched[] = []
  const writeDown = () => {
    const current = now.map(({ template: { node, vmid, marks } }) => ({
      ...{ node, vmid, version },
      digest: marks.digest ?? '',
    }))
    return lockCurrent({ ...to, target: places[0]?.target ?? '' }, { name: image, kind: first.kind }, current)
  }
  try {
    for (const template of wanted) now.push(await makeCurrent(to, template, held))
  } catch (error) {
    if (now.length === 0 || to.signal.aborted) throw error
    await writeDown()
    throw onSomeNodes(asImagebuildError(error), { image, version, held, now })
  }
  await writeDown()
  const from = before === undefined || before.marks.version === version ? '' : `${before.marks.version} → `
  const where = now.map(({ template: one }) => `${guestLabel(one)} on ${one.node}`).join(', ')
  const windows = now.flatMap(({ template, seconds }) =>
    seconds === undefined ? [] : [`; VMID ${template.vmid} was away for ${formatSeconds(seconds)}`],
  )
  return `${image}: ${from}${version} (${where})${held ? ', held' : ''}${windows.join('')}`
}

/** Nothing is changed on any node where something is in the way on one. */
async function requireRoom(to: Switch, wanted: readonly Template[]): Promise<void> {
  for (const template of wanted) {
    const fixed = fixedVmidOf(to, template)
    const place = to.places.find(({ node }) => node === template.node)
    if (place !== undefined && fixed !== undefined && fixed !== template.vmid)
      await requireFixedVmid({ ...to, place }, fixed)
  }
}

function onSomeNodes(
  failure: ImagebuildError,
  at: { image: string; version: string; held: boolean; now: readonly Switched[] },
): ImagebuildError {
  const { image, version, held, now } = at
  const nodes = now.map(({ template }) => template.node).join(', ')
  const again = held ? `rollback ${image}` : `promote ${image}@${version}`
  const done = `${version} is current on ${nodes} already: \`imagebuild ${again}\` goes on from here`
  return failure.with({ next: failure.next === undefined ? done : `${failure.next}\n${done}` })
}

interface Switched {
  template: Template
  /** seconds that nothing was at the fixed VMID */
  seconds?: number
}

/** By a mark alone, or, where the image has a fixed VMID, by a swap of what is there. */
async function makeCurrent(to: Switch, template: Template, held: boolean): Promise<Switched> {
  const { pve, places, namespace, image, emit, signal, tool } = to
  const place = places.find(({ node }) => node === template.node)
  const fixed = fixedVmidOf(to, template)
  if (place !== undefined && fixed !== undefined) {
    // Also where it is there already: what was on its way to that VMID must not come any more.
    if (fixed !== template.vmid) await pve.requirePrivileges(swapPrivileges(place))
    return await swap({ pve, place, namespace, image, emit, signal }, template, fixed, { tool, held })
  }
  const { untidy } = await promote(pve, template, { held })
  for (const { message } of untidy) {
    const note = `${template.marks.version} is current; another one could not be marked, which the next run or prune does`
    emit({ type: 'warning', image, message: `${note}: ${message}` })
  }
  return { template }
}

function fixedVmidOf({ image, vmid, places }: Switch, { node, marks }: Template): number | undefined {
  return fixedVmidOn({ name: image, vmid }, node, marks.shared ? [node] : places.map((one) => one.node))
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
