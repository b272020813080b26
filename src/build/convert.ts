import type { Plan } from '../plan/plan.ts'
import { renderNote } from '../pve/marks.ts'
import { nextVersion, nodeTemplates, setMarks, type Template } from '../pve/templates.ts'
import { type Build, during, noteOf } from './context.ts'
import type { BuildGuest } from './guest.ts'
import { SEED, templateParameters } from './machine.ts'
import type { SourceDecision } from './source.ts'

/** Seconds from the seal's last line to a stopped guest. */
const SHUTDOWN_SECONDS = 180

/**
 * From a sealed guest to a finished template that nobody uses yet. Until the very last call it bears the marks
 * of a temporary guest, so that whatever interrupts this is cleaned up.
 */
export async function convert(
  build: Build,
  { guest }: BuildGuest,
  plan: Plan,
  decision: SourceDecision,
): Promise<Template> {
  const { image, place, namespace, pve } = build
  await during(build, 'shutdown', 'shutting down', () => guest.stopped(SHUTDOWN_SECONDS))
  return await during(build, 'convert', 'converting to a template', async () => {
    const version = nextVersion(await nodeTemplates(pve, place.node, namespace), image.name, new Date())
    const name = `${image.name}-${version}`
    await guest.configure({ delete: SEED })
    if (image.kind === 'vm') await guest.configure({ name, ...templateParameters(image, place) })
    await guest.toTemplate()
    const marks = {
      vmid: guest.vmid,
      namespace,
      image: image.name,
      state: 'candidate',
      version,
      digest: plan.digest,
    } as const
    const template: Template = { kind: guest.kind, node: guest.node, vmid: guest.vmid, name, marks }
    const note = noteOf(build, guest.vmid, {
      version,
      digest: plan.digest,
      source: decision.record,
      built: new Date().toISOString(),
      verify: 'off',
    })
    await setMarks(
      pve,
      template,
      image.template.tags,
      renderNote(note, image.template.description ?? image.description),
    )
    return template
  })
}
