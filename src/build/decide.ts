import { makePlan, type Plan } from '../plan/plan.ts'
import type { Note } from '../pve/marks.ts'
import { highestTurn } from '../pve/promotion.ts'
import { imageTemplates, readNote, select, type Template } from '../pve/templates.ts'
import { type Build, sourceContext } from './context.ts'
import { isProven } from './prove.ts'
import { decideSource, type SourceDecision } from './source.ts'

export interface Decision {
  decision: SourceDecision
  plan: Plan
  /** the image's on this node */
  templates: Template[]
  /** highest turn of the image now: a rollback after this is not undone */
  since: number
  /** the template that counts now, and its note */
  current?: { template: Template; note: Note | undefined }
  /** where there is nothing to do, with the digest that it was built with: another one than the plan's after a rollback */
  ready?: { template: Template; digest: string }
}

/**
 * Reads only: which bytes, which digest, and whether the current template is that already.
 * @param source known to the caller, where it is not the one that the target would be asked for
 */
export async function decide(build: Build, source?: SourceDecision): Promise<Decision> {
  const { image, pve, place, namespace, options, glance } = build
  const { name } = image
  const all =
    glance?.templates.filter(({ marks }) => marks.image === name) ??
    (await imageTemplates(pve, { namespace, image: name, nodes: [place.node] }))
  const since = highestTurn(all)
  const templates = all.filter(({ node }) => node === place.node)
  const template = select(all, name, 'current', place.node)
  const note = template && (await (glance?.note(template) ?? readNote(pve, template)))
  const decision = source ?? (await decideSource(build, note?.source, sourceContext(build)))
  const plan = makePlan(image, { sourceIdentity: decision.record.identity, ssh: place.ssh })
  if (template === undefined) return { decision, plan, templates, since }
  const decided: Decision = { decision, plan, templates, since, current: { template, note } }
  if (options.force) return decided
  const ready = { template, digest: note?.digest ?? '' }
  // After a rollback the current template is another one on purpose: only --force or a promotion ends that.
  if (template.marks.held) return { ...decided, ready }
  if (options.refresh !== undefined || note?.digest !== plan.digest) return decided
  return options.verify === 'off' || (await isProven(build, note, plan)) ? { ...decided, ready } : decided
}
