import { asImagebuildError } from '../../core/errors.ts'
import type { Project } from '../../definition/load.ts'
import { type AddressPool, preferredIdentities, ROLES, roleOn } from '../../plan/network.ts'
import { byVersion, placesTemplates, readNote } from '../../pve/templates.ts'
import type { Invocation } from '../invocation.ts'
import { print, printJson, tell } from '../output.ts'
import { openProject } from '../project.ts'
import { formatTable } from '../table.ts'
import { addressesOf, chooseTarget, connectTarget, nodesOf } from '../target.ts'

/** Who an image's temporary guests are on the network, and which templates there are. */
export async function show(
  invocation: Invocation,
  name: string,
  options: { target?: string; json: boolean },
): Promise<void> {
  const project = await openProject(invocation, [name])
  const image = project.images.get(name)
  if (image === undefined) throw new TypeError(`${name} was not loaded`)
  const { target, nodes, pool, templates, unknown } = await ask(invocation, project, name, options.target)
  const { namespace } = project
  const { macPrefix } = target
  // Where the target has several nodes, each builds with addresses of its own.
  const roles = nodes.flatMap((node, index) =>
    ROLES.map((role) => roleOn(role, index > 0 ? node : undefined)),
  )
  const identity = preferredIdentities({ namespace, image: name, macPrefix }, pool, roles).map(
    ({ mac, address }, index) => ({ role: roles[index] ?? '', mac, address: address ?? 'dhcp' }),
  )
  if (options.json) {
    const shown = {
      image: name,
      kind: image.kind,
      target: target.name,
      identity,
      pool: pool ?? null,
      templates,
    }
    printJson(shown)
    return
  }
  print(`${name} (${image.kind}) on ${target.name}\n\n`)
  print(formatTable(['role', 'mac', 'address'], identity))
  print(`\n${pool === undefined ? DHCP : pooled(pool)}\n`)
  if (unknown !== undefined) tell(`\nits templates are not known: ${unknown}\n`)
  else if (templates?.length) {
    const columns = ['version', 'state', 'vmid', 'node', 'built', 'source'] as const
    print(`\n${formatTable([...columns], templates)}`)
  } else {
    tell(`\nno template yet: imagebuild run ${name}\n`)
  }
}

const DHCP = 'Addresses come by DHCP, for these MAC addresses: reserve one for each to know them beforehand.'

function pooled({ first, last }: AddressPool): string {
  return (
    `These are the preferred pairs. Where one is in use, a build takes the next pair from ${first} to ${last}: ` +
    'a firewall should let in all of them.'
  )
}

/**
 * Identities follow from the configuration alone, so they are told also where the target is not up yet or lets
 * nobody in. Only the lab chooses its own network.
 */
async function ask(invocation: Invocation, project: Project, image: string, asked: string | undefined) {
  const { name, target } = chooseTarget(project, asked)
  const facts = { name, macPrefix: target.macPrefix }
  try {
    await using connected = await connectTarget(invocation, project, asked, () => {})
    const { pve, place, places } = connected
    const nodes = places.map(({ node }) => node)
    const found = (await placesTemplates(pve, nodes, project.namespace)).filter(
      ({ marks }) => marks.image === image,
    )
    const templates = await Promise.all(
      found
        .sort((a, b) => byVersion(b, a))
        .map(async (template) => {
          const note = await readNote(pve, template)
          return {
            version: template.marks.version ?? '',
            state: template.marks.state,
            vmid: template.vmid,
            node: template.node,
            built: note?.built ?? '',
            digest: note?.digest ?? '',
            source:
              note?.source === undefined
                ? ''
                : `${note.source.request}${note.source.fallback ? ' (bootstrapped: the cloud image could not be reached)' : ''}`,
          }
        }),
    )
    return { target: facts, nodes, pool: place.addresses, templates, unknown: undefined }
  } catch (error) {
    if (target.kind === 'lab' || invocation.signal.aborted) throw error
    const unknown = asImagebuildError(error).message
    const nodes = nodesOf(target)
    return { target: facts, nodes, pool: addressesOf(target).addresses, templates: null, unknown }
  }
}
