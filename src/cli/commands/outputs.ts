import { readConfig } from '../../definition/config.ts'
import { findConfig } from '../../definition/find.ts'
import type { Pve } from '../../pve/client.ts'
import type { GuestKind } from '../../pve/guest-ref.ts'
import { placesTemplates, readNote, select, type Template } from '../../pve/templates.ts'
import type { Invocation } from '../invocation.ts'
import { print } from '../output.ts'
import { connectTarget } from '../target.ts'

export interface Output {
  kind: GuestKind
  /** on a target with several nodes: of the first of them that has one */
  vmid: number
  node: string
  /** VMID by node, on a target with several nodes */
  templates?: Record<string, number>
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
  const { pve, places } = connected
  const nodes = places.map(({ node }) => node)
  const templates = await placesTemplates(pve, nodes, config.namespace)
  const images = [...new Set(templates.map(({ marks }) => marks.image))].sort()
  const found = images
    .map((image) => currentOn(templates, image, nodes))
    .filter((current) => current.size > 0)
  const described = await Promise.all(found.map((current) => outputOf(pve, current, nodes)))
  const byImage = Object.fromEntries(described)
  print(formatOutputs(byImage, options.format))
}

/** The current template of each node that has one, in the nodes' order. */
function currentOn(
  templates: readonly Template[],
  image: string,
  nodes: readonly string[],
): Map<string, Template> {
  return new Map(
    nodes.flatMap((node) => {
      const template = select(templates, image, 'current', node)
      return template === undefined ? [] : [[node, template] as const]
    }),
  )
}

async function outputOf(
  pve: Pve,
  current: ReadonlyMap<string, Template>,
  nodes: readonly string[],
): Promise<[image: string, Output]> {
  const [template] = [...current.values()] as [Template]
  const { kind, vmid, node, marks } = template
  const vmids = Object.fromEntries([...current].map(([name, one]) => [name, one.vmid]))
  const note = await readNote(pve, template)
  const archive = note?.archive?.volid
  const output = {
    kind,
    vmid,
    node,
    ...(nodes.length > 1 && { templates: vmids }),
    version: marks.version ?? '',
    digest: note?.digest ?? '',
    built: note?.built ?? '',
    ...(archive !== undefined && { archive }),
  }
  return [marks.image, output]
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
          variables(output).map(
            ([key, value]) => `IMAGEBUILD_${variable(image)}_${variable(key)}=${value}\n`,
          ),
        )
        .join('')
  }
}

/** `IMAGEBUILD_WEB_VMID`, and for each node of several `IMAGEBUILD_WEB_VMID_<NODE>`. */
function variables({ templates = {}, ...output }: Output): [name: string, value: string | number][] {
  const onNodes = Object.entries(templates).map(([node, vmid]) => [`vmid-${node}`, vmid] as [string, number])
  return [...Object.entries(output), ...onNodes]
}

function variable(name: string): string {
  return name.toUpperCase().replaceAll('-', '_')
}
