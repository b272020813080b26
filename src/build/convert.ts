import type { Plan } from '../plan/plan.ts'
import { recordPlan, shortRecord } from '../plan/record.ts'
import { type Note, renderNote, toTags } from '../pve/marks.ts'
import type { Template } from '../pve/templates.ts'
import type { Artifact } from './archive.ts'
import { containerTemplateParameters, ON_CONSOLE } from './container.ts'
import { type Build, during, noteOf } from './context.ts'
import type { BuildGuest } from './guest.ts'
import { SEED, templateParameters } from './machine.ts'
import { PLAN, recordsFolder, writeRecord } from './records.ts'
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
  facts: {
    plan: Plan
    decision: SourceDecision
    version: string
    archive: Artifact | undefined
    /** SHA-256 of the records that this build wrote, by name */
    artifacts: Record<string, string>
  },
): Promise<Template> {
  const { image, place, namespace, pve } = build
  const { plan, decision, version, archive } = facts
  const { made, artifacts } = await writePlan(build, facts)
  // A sealed container is not asked to shut down: what its services log on the way would undo the seal.
  await during(build, 'shutdown', 'shutting down', () =>
    image.kind === 'vm' ? guest.stopped(SHUTDOWN_SECONDS) : guest.stop(),
  )
  return await during(build, 'convert', 'converting to a template', async () => {
    const name = `${image.name}-${version}`
    if (image.kind === 'vm') {
      await guest.configure({ delete: SEED })
      await guest.configure({ name, ...templateParameters(image, place) })
    } else {
      await guest.configure({ delete: ['nameserver', ...Object.keys(ON_CONSOLE)].join(',') })
      await guest.configure(containerTemplateParameters(image, place, name))
    }
    await guest.toTemplate()
    const marks = {
      vmid: guest.vmid,
      namespace,
      image: image.name,
      state: 'candidate',
      version,
      digest: plan.digest,
      ...(build.shared && { shared: true }),
    } as const
    const template: Template = { kind: guest.kind, node: guest.node, vmid: guest.vmid, name, marks }
    const note = noteOf(build, guest.vmid, {
      guest: guest.token,
      version,
      digest: plan.digest,
      source: decision.record,
      built: pve.clock.date().toISOString(),
      verify: 'off',
      ...(archive !== undefined && { archive: archive.note }),
      ...(made && { made }),
      ...(build.options.refresh && { refreshed: true }),
      artifacts: { ...facts.artifacts, ...artifacts },
    })
    const written = {
      tags: toTags(marks, image.template.tags),
      description: renderNote(note, image.template.description ?? image.description),
    }
    await guest.mark(written)
    return template
  })
}

/** What this template is made of, for the plans of later days. */
async function writePlan(
  { image, reportsDir, root, tool, beside }: Build,
  { plan, decision, version }: { plan: Plan; decision: SourceDecision; version: string },
): Promise<Pick<Note, 'made'> & { artifacts: Record<string, string> }> {
  const record = recordPlan(plan, { version, tool, source: decision.record, root })
  const folder = recordsFolder(reportsDir, image.name, version, beside)
  const sha256 = await writeRecord(folder, PLAN, `${JSON.stringify(record, undefined, 2)}\n`)
  const made = shortRecord(record)
  return { ...(made && { made }), artifacts: { [PLAN]: sha256 } }
}
