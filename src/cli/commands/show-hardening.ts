import { itemsOf } from '../../hardening/expand.ts'
import { makePlan } from '../../plan/plan.ts'
import type { Invocation } from '../invocation.ts'
import { print, printJson, tell } from '../output.ts'
import { openProject } from '../project.ts'

/** Each item of an image's profile: done, not applicable or switched off, and who asks for it. Offline. */
export async function showHardening(
  invocation: Invocation,
  name: string,
  options: { json: boolean },
): Promise<void> {
  const project = await openProject(invocation, [name])
  const image = project.images.get(name)
  if (image === undefined) throw new TypeError(`${name} was not loaded`)
  const { profile } = image.hardening
  const { left } = makePlan(image, { sourceIdentity: '', ssh: { authorities: [] } })
  const rows = itemsOf(profile).map(({ id, area, title, sources }) => {
    const out = left.find((one) => one.id === id)
    return { item: id, area, status: out?.because ?? 'done', title, sources, reason: out?.reason ?? '' }
  })
  if (options.json) {
    printJson({ image: name, profile, items: rows })
    return
  }
  if (rows.length === 0) {
    const known = profile === 'none' ? 'add `hardening: baseline` to its definition' : 'it has no items'
    tell(`${name} is not hardened (profile ${profile}): ${known}\n`)
    return
  }
  print(`${name}: profile ${profile}, ${rows.length - left.length} items done, ${left.length} left out\n\n`)
  const widest = Math.max(...rows.map(({ status }) => status.length))
  const indent = ' '.repeat(widest + 2)
  for (const { item, status, title, reason, sources } of rows) {
    const lines = [`${status.padEnd(widest)}  ${item}: ${title}`]
    if (reason !== '') lines.push(`${indent}because ${reason}`)
    lines.push(`${indent}[${sources.join('; ')}]`)
    print(`${lines.join('\n')}\n`)
  }
}
