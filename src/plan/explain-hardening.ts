import { canonicalJson } from './identity.ts'
import type { Reason } from './reason.ts'
import type { PlanRecord } from './record.ts'

/** Hardening by its items: the scripts that they come to are nothing to read. */
export function explainHardening(before: PlanRecord, now: PlanRecord): Reason[] {
  const reasons: Reason[] = []
  const add = (text: string) =>
    void reasons.push({ kind: 'hardening', subject: 'hardening', text: `hardening: ${text}` })
  const [old, fresh] = [before.hardening, now.hardening]
  if (old.profile !== fresh.profile) add(`profile ${old.profile} → ${fresh.profile}`)
  for (const trait of ['containers', 'postQuantum'] as const)
    if (old[trait] !== fresh[trait]) add(`${trait} ${old[trait]} → ${fresh[trait]}`)
  const ids = Object.keys({ ...before.items, ...now.items })
  const excepted = ids.filter((id) => now.items[id] === undefined && fresh.except[id] !== undefined)
  for (const id of excepted) add(`without ${id}: ${fresh.except[id]}`)
  const gone = ids.filter((id) => now.items[id] === undefined && !excepted.includes(id))
  if (gone.length > 0) add(`no longer ${gone.join(', ')}`)
  const added = ids.filter((id) => before.items[id] === undefined)
  if (added.length > 0) add(`also ${added.join(', ')}`)
  const other = ids.filter((id) => before.items[id] && now.items[id] && before.items[id] !== now.items[id])
  if (other.length > 0) add(`${other.join(', ')} in another way`)
  // Nothing of the items: it is how this program puts them together.
  if (reasons.length === 0 && layersOf(before) !== layersOf(now))
    add(`its layers are put together in another way (imagebuild ${before.tool} → ${now.tool})`)
  return reasons
}

function layersOf({ layers, result }: PlanRecord): string {
  const identities = layers.filter(({ by }) => by === 'hardening').map(({ identity }) => identity)
  return canonicalJson([identities, result.atSeal ?? null])
}
