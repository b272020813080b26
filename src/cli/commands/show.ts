import { identities, type Role } from '../../plan/network.ts'
import { byVersion, nodeTemplates, readNote } from '../../pve/templates.ts'
import type { Invocation } from '../invocation.ts'
import { openProject } from '../project.ts'
import { formatTable } from '../table.ts'
import { connectTarget } from '../target.ts'

const ROLES: readonly Role[] = ['build', 'verify-a', 'verify-b']

/** Who an image's temporary guests are on the network, and which templates there are. */
export async function show(
  invocation: Invocation,
  name: string,
  options: { target?: string; json: boolean },
): Promise<void> {
  const project = await openProject(invocation, [name])
  const image = project.images.get(name)
  if (image === undefined) throw new TypeError(`${name} was not loaded`)
  await using connected = await connectTarget(invocation, project, options.target, () => {})
  const { pve, place } = connected
  const { namespace } = project
  const identity = ROLES.map((role) => {
    const [first] = identities({ namespace, image: name, role, macPrefix: place.macPrefix }, place.addresses)
    return { role, mac: first?.mac ?? '', address: first?.address ?? 'dhcp' }
  })
  const templates = await Promise.all(
    (await nodeTemplates(pve, place.node, namespace))
      .filter(({ marks }) => marks.image === name)
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
  if (options.json) {
    process.stdout.write(
      `${JSON.stringify({ image: name, kind: image.kind, target: place.target, identity, templates }, undefined, 2)}\n`,
    )
    return
  }
  process.stdout.write(`${name} (${image.kind}) on ${place.target}\n\n`)
  process.stdout.write(formatTable(['role', 'mac', 'address'], identity))
  if (templates.length > 0) {
    process.stdout.write(
      `\n${formatTable(['version', 'state', 'vmid', 'node', 'built', 'source'], templates)}`,
    )
  } else {
    process.stderr.write(`\nno template yet: imagebuild run ${name}\n`)
  }
}
