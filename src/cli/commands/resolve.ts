import { suggest } from '../../core/did-you-mean.ts'
import { ImagebuildError } from '../../core/errors.ts'
import { type Config, readConfig } from '../../definition/config.ts'
import { findConfig } from '../../definition/find.ts'
import { askTemplates } from '../../pve/cluster.ts'
import { PveError } from '../../pve/errors.ts'
import {
  nodeTemplates,
  readNote,
  select,
  type Template,
  templatesIn,
  unlistedIn,
} from '../../pve/templates.ts'
import type { Invocation } from '../invocation.ts'
import { print, printJson } from '../output.ts'
import { chooseTarget, connectTarget, reachTarget } from '../target.ts'
import type { Wanted } from './terraform-query.ts'

/** Prints one VMID. Nothing found: exit 1 and an empty stdout. */
export async function resolve(
  invocation: Invocation,
  name: string,
  options: { target?: string; node?: string },
): Promise<void> {
  const [image = '', selector = 'current'] = name.split('@')
  const config = await openConfig(invocation)
  const template = await findTemplate(invocation, config, { ...options, image, selector })
  print(`${template.vmid}\n`)
}

/** As a program of Terraform's data source `external`: a query on stdin, a flat object of strings on stdout. */
export async function resolveForTerraform(
  invocation: Invocation,
  options: { target?: string; node?: string },
): Promise<void> {
  const { readQuery } = await import('./terraform-query.ts')
  const query = await readQuery(process.stdin)
  const wanted = { ...options, ...query }
  const config = await openConfig(invocation)
  const template = await findTemplate(invocation, config, wanted)
  await using connected = await connectTarget(invocation, config, wanted.target, () => {})
  const note = await readNote(connected.pve, template)
  const { vmid, node, name, kind, marks } = template
  const result = {
    vmid: String(vmid),
    node,
    name,
    kind,
    version: marks.version ?? '',
    digest: note?.digest ?? '',
  }
  printJson(result, 'one line')
}

/** Images do not matter here: which are known is in the cluster. */
async function openConfig(invocation: Invocation): Promise<Config> {
  return readConfig(await findConfig(process.cwd(), invocation.config))
}

/**
 * By one request for the whole cluster. Only where that finds nothing, or something newer that is not called a template
 * yet, the nodes are asked too: they know of a template from its first moment, the cluster's list some seconds later.
 * @throws ImagebuildError `not_found`
 */
async function findTemplate(invocation: Invocation, config: Config, wanted: Wanted): Promise<Template> {
  const { image, selector, node, target } = wanted
  // As `outputs` has it: of several nodes the first one that has a template.
  const choose = (all: readonly Template[], nodes: readonly string[]) => {
    for (const one of node === undefined ? nodes : [node]) {
      const found = select(all, image, selector, one)
      if (found !== undefined) return found
    }
    return undefined
  }
  const { all, unlisted, nodes } = await inCluster(invocation, config, target)
  const listed = choose(all, nodes)
  const isSettled = choose([...all, ...unlisted], nodes) === listed
  if (listed !== undefined && isSettled) return listed
  await using connected = await connectTarget(invocation, config, target, () => {})
  const { pve, place, places } = connected
  const names = places.map((one) => one.node)
  if (node !== undefined && !names.includes(node)) {
    const { requireNode } = await import('../../pve/nodes.ts')
    await requireNode(pve, node)
  }
  const near = [...new Set([...names, ...(node === undefined ? [] : [node])])]
  const asked = await Promise.allSettled(near.map((one) => nodeTemplates(pve, one, config.namespace)))
  const failed = asked.find(({ status }) => status === 'rejected') as PromiseRejectedResult | undefined
  // Of a node that is down, nothing can be cloned.
  const late = choose(
    asked.flatMap((one) => (one.status === 'fulfilled' ? one.value : [])),
    names,
  )
  if (late !== undefined) return late
  if (listed !== undefined) return listed
  if (failed !== undefined) throw failed.reason
  throw new ImagebuildError({
    code: 'not_found',
    what: `there is no ${selector} template of ${image} on ${place.target}${node === undefined ? '' : `, node ${node}`}`,
    next: await nextFor(config, image, selector),
  })
}

/**
 * All there is, and the nodes of the target: other targets of the same cluster have templates too.
 * @returns nothing where a lab is meant that does not answer, and therefore has to be started first
 */
async function inCluster(
  invocation: Invocation,
  config: Config,
  asked: string | undefined,
): Promise<{ all: Template[]; unlisted: Template[]; nodes: readonly string[] }> {
  const nothing = { all: [], unlisted: [], nodes: [] }
  const reached = await reachTarget(invocation, config, asked)
  if (reached === undefined) return nothing
  const { connection, nodes } = reached
  try {
    const rows = await askTemplates(connection)
    const { namespace } = config
    return { all: templatesIn(rows, namespace), unlisted: unlistedIn(rows, namespace), nodes }
  } catch (error) {
    const ending = error instanceof PveError && error.delivery !== 'answered'
    if (ending && chooseTarget(config, asked).target.kind === 'lab') return nothing
    throw error
  }
}

async function nextFor(config: Config, image: string, selector: string): Promise<string> {
  if (selector !== 'current') return 'imagebuild list shows the versions that there are'
  const { listImages } = await import('../../definition/load.ts')
  const known = listImages(config.root, () => {})
  if (known.includes(image)) return `build it: imagebuild run ${image}`
  return suggest(image, known, 'images here') ?? 'imagebuild list shows what there is'
}
