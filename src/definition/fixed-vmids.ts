import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Target } from './config-schema.ts'
import type { Diagnostic } from './diagnostics.ts'
import { filesIn, IMAGE_FILE } from './image.ts'
import { fixedVmid } from './image-schema.ts'
import { type Path, YamlFile } from './yaml-file.ts'

/** `template.vmid`: a VMID is one guest's in the whole cluster, whichever node it is on. */

interface Fixed {
  vmid: number
  path: Path
}

function fixedIn(yaml: YamlFile): Fixed[] {
  const written = (yaml.value as { template?: { vmid?: unknown } } | null)?.template?.vmid
  const { data } = fixedVmid.safeParse(written)
  if (data === undefined) return []
  const path = ['template', 'vmid']
  if (typeof data === 'number') return [{ vmid: data, path }]
  return Object.entries(data).map(([node, vmid]) => ({ vmid, path: [...path, node] }))
}

/** VMIDs that two templates want, or that lie where a target has its claims. */
export function findVmidConflicts(
  images: ReadonlyMap<string, { yaml: YamlFile }>,
  targets: Readonly<Record<string, Target>>,
): Diagnostic[] {
  const found: Diagnostic[] = []
  const owners = new Map<number, string>()
  for (const [name, { yaml }] of [...images].sort(([a], [b]) => (a < b ? -1 : 1))) {
    for (const { vmid, path } of fixedIn(yaml)) {
      const complain = (message: string, hint: string) =>
        void found.push(yaml.diagnostic(yaml.at(path), message, hint))
      const owner = owners.get(vmid)
      if (owner !== undefined)
        complain(
          owner === name
            ? `VMID ${vmid} stands here twice`
            : `VMID ${vmid} is fixed for the image \`${owner}\` already`,
          'a VMID is one guest’s in the whole cluster: choose another',
        )
      owners.set(vmid, name)
      for (const [target, { vmids }] of Object.entries(targets)) {
        const [first = 0, last = 0] = vmids.claims.split('-').map(Number)
        if (vmid >= first && vmid <= last)
          complain(
            `VMID ${vmid} lies among the claims (${vmids.claims}) of target \`${target}\``,
            'choose one outside',
          )
      }
    }
  }
  return found
}

/**
 * The fixed VMIDs of all images, also of those that are not loaded: no build may take one of them for a temporary guest.
 * Of a definition with mistakes, whatever can be read.
 */
export function readFixedVmids(root: string, names: readonly string[]): number[] {
  const all = names.flatMap((name) => fixedOf(root, name))
  return [...new Set(all.map(({ vmid }) => vmid))].sort((a, b) => a - b)
}

/** The same of all images of a project, for those who load none. */
export function allFixedVmids(root: string): number[] {
  return readFixedVmids(root, filesIn(join(root, 'images')) ?? [])
}

/** `template.vmid` of one image, whatever else is wrong with its definition. */
export function readFixedVmid(root: string, image: string): number | Record<string, number> | undefined {
  const found = fixedOf(root, image)
  const [only] = found
  if (only === undefined || only.path.length === 2) return only?.vmid
  return Object.fromEntries(found.map(({ vmid, path }) => [path.at(-1), vmid]))
}

function fixedOf(root: string, image: string): Fixed[] {
  const file = join(root, 'images', image, IMAGE_FILE)
  return textOf(file).includes('vmid') ? fixedIn(YamlFile.read(file)) : []
}

/** Empty where it cannot be read: who loads the image says why. */
function textOf(file: string): string {
  try {
    return readFileSync(file, 'utf8')
  } catch {
    return ''
  }
}
