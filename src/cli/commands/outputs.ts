import { readConfig } from '../../definition/config.ts'
import { findConfig } from '../../definition/find.ts'
import type { Pve } from '../../pve/client.ts'
import type { GuestKind } from '../../pve/guest-ref.ts'
import { nodeTemplates, readNote, select, type Template } from '../../pve/templates.ts'
import type { Invocation } from '../invocation.ts'
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
  const config = await readConfig(await findConfig(process.cwd(), invocation.config))
  await using connected = await connectTarget(invocation, config, options.target, () => {})
  const { pve, place } = connected
  const templates = await nodeTemplates(pve, place.node, config.namespace)
  const images = [...new Set(templates.map(({ marks }) => marks.image))].sort()
  const current = images.flatMap((image) => select(templates, image) ?? [])
  const found = await Promise.all(current.map((template) => outputOf(pve, template)))
  const byImage = Object.fromEntries(found.map((output, index) => [current[index]?.marks.image, output]))
  process.stdout.write(formatOutputs(byImage, options.format))
}

async function outputOf(pve: Pve, template: Template): Promise<Output> {
  const { kind, vmid, node, marks } = template
  const note = await readNote(pve, template)
  const archive = note?.archive?.volid
  return {
    kind,
    vmid,
    node,
    version: marks.version ?? '',
    digest: note?.digest ?? '',
    built: note?.built ?? '',
    ...(archive !== undefined && { archive }),
  }
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
