import type { GuestKind } from '../../pve/guest-ref.ts'
import { nodeTemplates, readNote, select } from '../../pve/templates.ts'
import type { Invocation } from '../invocation.ts'
import { openProject } from '../project.ts'
import { connectTarget } from '../target.ts'

export interface Output {
  kind: GuestKind
  vmid: number
  node: string
  version: string
  digest: string
  /** ISO 8601, UTC */
  built: string
  /** volume id of a container's archive, where its definition keeps one */
  archive?: string
}

export type OutputFormat = 'json' | 'tfvars' | 'ansible' | 'env'

/** The current templates, in the form that the next tool reads. */
export async function outputs(
  invocation: Invocation,
  options: { target?: string; format: OutputFormat },
): Promise<void> {
  const project = await openProject(invocation, [])
  await using connected = await connectTarget(invocation, project, options.target, () => {})
  const { pve, place } = connected
  const templates = await nodeTemplates(pve, place.node, project.namespace)
  const current: Record<string, Output> = {}
  for (const image of [...new Set(templates.map(({ marks }) => marks.image))].sort()) {
    const template = select(templates, image)
    if (template === undefined) continue
    const note = await readNote(pve, template)
    const archive = note?.archive?.volid
    current[image] = {
      kind: template.kind,
      vmid: template.vmid,
      node: template.node,
      version: template.marks.version ?? '',
      digest: note?.digest ?? '',
      built: note?.built ?? '',
      ...(archive !== undefined && { archive }),
    }
  }
  process.stdout.write(formatOutputs(current, options.format))
}

/** `tfvars` is what Terraform reads from *.auto.tfvars.json, `ansible` a file of extra variables. */
export function formatOutputs(current: Record<string, Output>, format: OutputFormat): string {
  switch (format) {
    case 'json':
      return `${JSON.stringify(current, undefined, 2)}\n`
    case 'tfvars':
      return `${JSON.stringify({ imagebuild_templates: current }, undefined, 2)}\n`
    case 'ansible':
      return `${JSON.stringify({ imagebuild_templates: current }, undefined, 2)}\n`
    case 'env':
      return Object.entries(current)
        .flatMap(([image, output]) =>
          Object.entries(output).map(
            ([key, value]) => `IMAGEBUILD_${variable(image)}_${variable(key)}=${value}\n`,
          ),
        )
        .join('')
  }
}

function variable(name: string): string {
  return name.toUpperCase().replaceAll('-', '_')
}
