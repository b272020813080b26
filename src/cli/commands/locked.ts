import { ImagebuildError } from '../../core/errors.ts'
import { type Config, readConfig } from '../../definition/config.ts'
import { findConfig } from '../../definition/find.ts'
import type { Invocation } from '../invocation.ts'
import { LOCKFILE, type Locked, readLockfile } from '../lockfile.ts'
import { print, printJson } from '../output.ts'
import { chooseTarget } from '../target.ts'
import { formatOutputs, type Output, type OutputFormat } from './outputs.ts'
import { readQuery, type Wanted } from './terraform-query.ts'

/** What the lockfile says, with no cluster at hand. */

export async function resolveLocked(
  invocation: Invocation,
  name: string,
  options: { target?: string; node?: string },
): Promise<void> {
  const [image = '', selector = 'current'] = name.split('@')
  const { vmid } = await findLocked(invocation, { ...options, image, selector })
  print(`${vmid}\n`)
}

/** What `resolve --terraform-external` prints. */
export async function resolveLockedForTerraform(
  invocation: Invocation,
  options: { target?: string; node?: string },
): Promise<void> {
  const wanted = { ...options, ...(await readQuery(process.stdin)) }
  const { vmid, node, kind, version, digest } = await findLocked(invocation, wanted)
  // Of templates that is always so.
  const name = `${wanted.image}-${version}`
  printJson({ vmid: String(vmid), node, name, kind, version, digest }, 'one line')
}

async function findLocked(
  invocation: Invocation,
  wanted: Wanted,
): Promise<Locked & { node: string; vmid: number }> {
  const { image, selector } = wanted
  const { config, target, images } = await open(invocation, wanted.target)
  const entry = images[image]
  const isMeant = selector === '' || selector === 'current' || selector === entry?.version
  const there = isMeant && entry !== undefined ? onNode(config, target, entry, wanted.node) : undefined
  if (entry === undefined || there === undefined) {
    const where = wanted.node === undefined ? '' : `, node ${wanted.node}`
    throw new ImagebuildError({
      code: 'not_found',
      what: `${LOCKFILE} has no ${selector || 'current'} template of ${image} on ${target}${where}`,
      why: 'it has what is current, as run, promote and rollback have written it',
      next: `imagebuild run ${image}, or without --locked to ask the cluster`,
    })
  }
  return { ...entry, ...there }
}

export async function outputsLocked(
  invocation: Invocation,
  options: { target?: string; format: OutputFormat },
): Promise<void> {
  const { config, target, images } = await open(invocation, options.target)
  const current: Record<string, Output> = {}
  for (const [image, entry] of Object.entries(images)) {
    const there = onNode(config, target, entry)
    if (there === undefined) continue
    const { kind, version, digest, built, archive } = entry
    const { nodes = [] } = config.targets[target] ?? {}
    const served = entry.shared
      ? Object.fromEntries(nodes.map((node) => [node, there.vmid]))
      : entry.templates
    const several = nodes.length > 1
    current[image] = {
      ...{ kind, ...there, ...(several && { templates: served }), version, digest, built },
      ...(archive !== undefined && { archive }),
    }
  }
  print(formatOutputs(current, options.format))
}

async function open(
  invocation: Invocation,
  asked: string | undefined,
): Promise<{ config: Config; target: string; images: Record<string, Locked> }> {
  const config = await readConfig(await findConfig(process.cwd(), invocation.config))
  const { name: target } = chooseTarget(config, asked)
  const { targets } = await readLockfile(config.root)
  return { config, target, images: targets[target] ?? {} }
}

/** The template on a node; on the target's first node that has one, where none is named. */
function onNode(
  config: Config,
  targetName: string,
  { templates, shared }: Locked,
  asked?: string,
): { node: string; vmid: number } | undefined {
  const { nodes = [] } = config.targets[targetName] ?? {}
  const named = shared && nodes.includes(asked ?? '') ? undefined : asked
  const node = named ?? [...nodes, ...Object.keys(templates)].find((one) => templates[one] !== undefined)
  const vmid = node === undefined ? undefined : templates[node]
  return node === undefined || vmid === undefined ? undefined : { node, vmid }
}
