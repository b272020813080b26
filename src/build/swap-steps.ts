import { asImagebuildError } from '../core/errors.ts'
import { step } from '../core/events.ts'
import { copyTemplate } from '../pve/copy-template.ts'
import { configIfThere, destroyGuest } from '../pve/destroy.ts'
import { guestApi, guestLabel } from '../pve/guest-ref.ts'
import { workOn } from '../pve/lost-answer.ts'
import { promote } from '../pve/promotion.ts'
import { nodeTemplates, select, type Template } from '../pve/templates.ts'
import { hasLinkedClones, type Occupant, type SwapBy } from './fixed-vmid.ts'
import type { SwapLock } from './swap-lock.ts'
import { abandon, remainsOf } from './swap-remains.ts'

/** The steps of a swap (swap.ts): the copy of the old one, its removal, the copy of the new one. */

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
  { there, standin }: { there: Occupant; standin: Template | undefined },
): Promise<void> {
  const old = oldOne(there, source)
  const { version } = source.marks
  const label =
    standin === undefined
      ? `making version ${version} at VMID ${fixed}`
      : `replacing VMID ${fixed} by version ${version}`
  await during(by, 'swap', label, async (onLine) => {
    if (old !== undefined) await removeOld(by, old, fixed)
    if (there.is === 'copy') await destroyGuest(by.pve, { ...there.guest, run: there.run, signal: by.signal })
    const made = await copyTemplate(
      by.pve,
      source,
      { ...copying(by, lock, fixed, onLine), at: fixed },
      { marks: marksAtFixed(source, fixed), ...(standin && { note: { previous: standin.vmid } }) },
    )
    await lock.confirm(by.signal)
    await becomeCurrent(by, source, made)
  })
}

/** Without `purge`, which would strike the VMID out of backup jobs: it is there again in a moment. */
async function removeOld({ pve, signal, image, ...by }: SwapBy, old: Template, fixed: number): Promise<void> {
  try {
    await workOn(pve, old, {
      send: async () => (await guestApi(pve, old).$delete()) as string,
      wait: async (upid) => void (await pve.waitTask(upid, { seconds: 300, signal })),
      isDone: async () => (await configIfThere(pve, old)) === undefined,
      signal,
    })
  } catch (error) {
    if (!/still in use by linked clone/i.test(asImagebuildError(error).message)) throw error
    await abandonAll({ pve, signal, image, ...by }, fixed)
    throw hasLinkedClones(
      `${guestLabel(old)}, version ${old.marks.version} of ${image}`,
      'some that these credentials may not see',
    )
  }
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

export async function becomeCurrent(by: SwapBy, source: Template, made: Template): Promise<void> {
  const { pve, namespace, image, place } = by
  const held = source.marks.held ?? false
  const current = select(await nodeTemplates(pve, place.node, namespace), image, 'current', place.node)
  if (current?.vmid === made.vmid && (current.marks.held ?? false) === held) return
  const { untidy } = await promote(pve, made, { held })
  for (const { message } of untidy) by.emit({ type: 'warning', image, message })
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
