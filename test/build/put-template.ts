import { PLAN, recordsFolder, writeRecord } from '../../src/build/records.ts'
import type { ImageSpec, SourceSpec } from '../../src/definition/spec.ts'
import { digestOfChecks, makePlan, type Plan, sourceRequest } from '../../src/plan/plan.ts'
import { recordPlan, shortRecord } from '../../src/plan/record.ts'
import { type Marks, type Note, renderNote, toTags } from '../../src/pve/marks.ts'
import { bootstrapIdentity } from '../../src/source/bootstrap-recipe.ts'
import { bytes, imageSpec, shellLayer, WHERE } from '../plan/spec.ts'
import type { MemoryProxmox } from '../pve/memory-proxmox.ts'

/** Known without any network. */
const SOURCE: SourceSpec = {
  kind: 'bootstrap',
  distribution: 'debian',
  suite: 'bookworm',
  packages: [],
  architecture: 'amd64',
  where: WHERE,
}
export const IDENTITY = bootstrapIdentity({
  ...{ distribution: 'debian', suite: 'bookworm', arch: 'amd64', packages: [] },
})

export const web = (script = 'true\n', name = 'web') =>
  imageSpec({ name, source: SOURCE, layers: [shellLayer({ script: bytes(script) })] })

export const PASSED = {
  at: '',
  passed: 1,
  failed: 0,
  skipped: 0,
  left: 0,
  certificates: 'passed',
  inside: 'verified',
}

/** Puts a template there that was built from this definition, with what its build has written down. */
export async function putTemplate(
  { pve, reportsDir }: { pve: MemoryProxmox; reportsDir: string },
  image: ImageSpec,
  vmid: number,
  change: Partial<Marks> = {},
  note: Partial<Note> = {},
): Promise<Plan> {
  const identity = note.source?.identity ?? IDENTITY
  const plan = makePlan(image, { sourceIdentity: identity, ssh: { authorities: [] } })
  const version = `20260101.${vmid}`
  const source = { request: sourceRequest(image.source), identity, version: 'bookworm', fallback: false }
  const record = recordPlan(plan, { version, tool: '0', source, root: '/' })
  const folder = recordsFolder(reportsDir, image.name, version)
  const sha256 = await writeRecord(folder, PLAN, JSON.stringify(record))
  const made = shortRecord(record)
  const marks = {
    vmid,
    namespace: 'homelab',
    image: image.name,
    state: 'current',
    version,
    ...change,
  } as const
  const { artifacts, ...others } = note
  pve.put(vmid, {
    ...{ name: `${image.name}-${version}`, template: 1, tags: toTags(marks) },
    description: renderNote({
      ...{ schema: 1, vmid, namespace: 'homelab', image: image.name, kind: 'vm', tool: '0', run: 'r' },
      ...{ version, digest: plan.digest, source },
      verify: { ...PASSED, checks: digestOfChecks(plan.checks) },
      ...(made && { made }),
      artifacts: { [PLAN]: sha256, ...artifacts },
      ...others,
    }),
  })
  return plan
}
