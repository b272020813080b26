import { asImagebuildError, ImagebuildError } from '../core/errors.ts'
import { step } from '../core/events.ts'
import type { GuestConfig } from '../pve/answers.ts'
import type { Pve } from '../pve/client.ts'
import { copyTemplate } from '../pve/copy-template.ts'
import { configIfThere, destroyGuest } from '../pve/destroy.ts'
import { guestApi, guestLabel, readConfig } from '../pve/guest-ref.ts'
import { workOn } from '../pve/lost-answer.ts'
import { fromTags, parseNote } from '../pve/marks.ts'
import { promote, tidy } from '../pve/promotion.ts'
import { nodeTemplates, select, type Template } from '../pve/templates.ts'
import { hasLinkedClones, type Occupant, type SwapBy } from './fixed-vmid.ts'
import { type Standing, unlessOvertaken } from './overtaken.ts'
import type { SwapLock } from './swap-lock.ts'
import { abandon, discard, remainsOf, settleRemains } from './swap-remains.ts'

/** The steps of a swap (swap.ts): the copy of the old one, its removal, the copy of the new one. */

type OldOne = Extract<Occupant, { is: 'template' }>

/** What has to go is still there, so nothing is lost by leaving it. */
export function oldOne(there: Occupant, source: Template): Template | undefined {
  if (there.is !== 'template' || there.template.marks.version === source.marks.version) return undefined
  return there.template
}

/** The old one's copy, with its marks: it counts as soon as the old one is gone. */
export async function standIn(by: SwapBy, lock: SwapLock, old: Template, fixed: number): Promise<void> {
  const found = (await remainsOf(by)).find((one) => one.fixed === fixed)
  if (found?.standins.some(({ marks }) => marks.version === old.marks.version)) return
  const { vmid: _, ...marks } = old.marks
  const label = `copying ${guestLabel(old)}, version ${old.marks.version}, which stands in for it`
  await during(by, 'stand-in', label, (onLine) =>
    copyTemplate(by.pve, old, copying(by, lock, fixed, onLine), {
      marks: { ...marks, standin: true, swap: fixed },
    }),
  )
}

/** The step during which nothing is at the VMID. */
export async function replace(
  by: SwapBy,
  lock: SwapLock,
  source: Template,
  fixed: number,
  how: { there: Occupant; standin: Template | undefined; standing: Standing },
): Promise<void> {
  const { there, standin, standing } = how
  const { version } = source.marks
  const label =
    standin === undefined
      ? `making version ${version} at VMID ${fixed}`
      : `replacing VMID ${fixed} by version ${version}`
  await during(by, 'swap', label, async (onLine) => {
    if (there.is === 'template') await removeOld(by, there, standing, fixed)
    if (there.is === 'copy') await destroyGuest(by.pve, { ...there.guest, run: there.run, signal: by.signal })
    const made = await copyTemplate(
      by.pve,
      source,
      { ...copying(by, lock, fixed, onLine), at: fixed },
      { marks: marksAtFixed(source, fixed), ...(standin && { note: { previous: standin.vmid } }) },
    )
    await lock.confirm(by.signal)
    await becomeCurrent(by, source, made, standing)
  })
}

/** Without `purge`, which would strike the VMID out of backup jobs: it is there again in a moment. */
async function removeOld(by: SwapBy, there: OldOne, standing: Standing, fixed: number): Promise<void> {
  const { pve, signal, image } = by
  const { template: old } = there
  const asSeen = unlessOvertaken(pve, standing).withGate(() => requireAsSeen(pve, there))
  try {
    await workOn(pve, old, {
      send: () => guestApi(asSeen, old).$delete(),
      wait: async (upid) => void (await pve.waitTask(upid, { seconds: 300, signal })),
      isDone: async () => (await configIfThere(pve, old)) === undefined,
      signal,
    })
  } catch (error) {
    if (!/still in use by linked clone/i.test(asImagebuildError(error).message)) throw error
    await abandonAll(by, fixed)
    throw hasLinkedClones(
      `${guestLabel(old)}, version ${old.marks.version} of ${image}`,
      'some that these credentials may not see',
    )
  }
}

/** Between the look at it and its removal another run may have swapped in one of its own. */
async function requireAsSeen(pve: Pve, { template: old, config: seen }: OldOne): Promise<void> {
  const now = await configIfThere(pve, old)
  const identity = ({ tags, description }: Pick<GuestConfig, 'tags' | 'description'>) =>
    `${fromTags(old.vmid, tags)?.version} ${parseNote(old.vmid, description)?.guest}`
  if (now !== undefined && identity(now) === identity(seen)) return
  throw new ImagebuildError({
    code: 'busy',
    what: `${guestLabel(old)} on ${old.node} is not version ${old.marks.version} of ${old.marks.image} any more`,
    why: 'another run, or a user, has replaced or removed it at this moment',
    next: `imagebuild history ${old.marks.image}, and run again`,
  })
}

/** All is as it was before the swap. */
export async function abandonAll(by: SwapBy, fixed: number): Promise<void> {
  for (const one of await remainsOf(by)) if (one.fixed === fixed) await abandon(by, one)
}

/** What is current moves with its turn; all else becomes current by a promotion, and bears until then that it is a swap's. */
function marksAtFixed({ marks }: Template, fixed: number): Parameters<typeof copyTemplate>[3]['marks'] {
  const { vmid: _vmid, swap: _swap, standin: _standin, expires: _expires, ...rest } = marks
  if (rest.state === 'current') return rest
  const { turn: _turn, held: _held, ...others } = rest
  return { ...others, state: 'candidate', swap: fixed }
}

export async function becomeCurrent(
  by: SwapBy,
  source: Template,
  made: Template,
  standing: Standing,
): Promise<void> {
  const { pve, namespace, image, place } = by
  const held = source.marks.held ?? false
  const current = select(await nodeTemplates(pve, place.node, namespace), image, 'current', place.node)
  const isCurrent = current?.vmid === made.vmid && current.marks.version === made.marks.version
  if (isCurrent && (current.marks.held ?? false) === held) return
  const { untidy } = await promote(unlessOvertaken(pve, standing), made, { held })
  for (const { message } of untidy) by.emit({ type: 'warning', image, message })
}

/** It is there: it counts, the stand-in becomes an ordinary previous one, and what it was copied from goes. */
export async function complete(
  by: SwapBy,
  source: Template,
  there: Template,
  fixed: number,
  standing: Standing,
): Promise<Template> {
  const { pve, namespace, image, place } = by
  await becomeCurrent(by, source, there, standing)
  const all = (await nodeTemplates(pve, place.node, namespace)).filter(({ marks }) => marks.image === image)
  for (const failure of await tidy(pve, all)) throw failure
  for (const remains of await remainsOf(by)) {
    if (remains.fixed !== fixed) continue
    await settleRemains(
      by,
      { ...remains, source: undefined },
      { is: 'template', template: there, config: await readConfig(pve, there) },
    )
  }
  await discard(by, source)
  return select(await nodeTemplates(pve, place.node, namespace), image, 'current', place.node) ?? there
}

/** What failed is told with what it means. */
export function whileAway(
  error: unknown,
  at: { place: SwapBy['place']; image: string; fixed: number; standin: Template | undefined },
): ImagebuildError {
  const { place, image, fixed, standin } = at
  const meanwhile =
    standin === undefined
      ? ''
      : `; until then \`imagebuild resolve ${image}\` gives ${standin.vmid}, a copy of the old one`
  const failure = asImagebuildError(error)
  const next = `nothing is at VMID ${fixed} on ${place.node}: \`imagebuild run ${image}\` or \`imagebuild prune\` goes on from here${meanwhile}`
  return failure.with({ next: failure.next === undefined ? next : `${failure.next}\n${next}` })
}

function copying(
  { place, emit, signal }: SwapBy,
  { run }: SwapLock,
  fixed: number,
  onLine: (line: string) => void,
) {
  return { place, run, fixed, emit, signal, onLine }
}

function during<T>(
  { emit, image }: SwapBy,
  name: string,
  label: string,
  work: (onLine: (line: string) => void) => Promise<T>,
): Promise<T> {
  const onLine = (line: string) => emit({ type: 'output', image, step: name, stream: 'task', line })
  return step(emit, { image, step: name, label }, () => work(onLine))
}
