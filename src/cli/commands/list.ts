import { byVersion, placesTemplates } from '../../pve/templates.ts'
import type { Invocation } from '../invocation.ts'
import { print, printJson, tell } from '../output.ts'
import { openProject } from '../project.ts'
import { formatTable } from '../table.ts'
import { connectTarget } from '../target.ts'

/** All templates of ours on the target's nodes, newest first. */
export async function list(
  invocation: Invocation,
  options: { target?: string; json: boolean },
): Promise<void> {
  const project = await openProject(invocation, [])
  await using connected = await connectTarget(invocation, project, options.target, () => {})
  const { pve, place, places } = connected
  const nodes = places.map(({ node }) => node)
  const templates = (await placesTemplates(pve, nodes, project.namespace)).sort(
    (a, b) => a.marks.image.localeCompare(b.marks.image) || byVersion(b, a),
  )
  const rows = templates.map(({ node, vmid, name, marks }) => ({
    image: marks.image,
    version: marks.version ?? '',
    state: marks.held ? `${marks.state}, held` : marks.state,
    verified: marks.verified === 'inside' ? 'yes' : marks.verified === 'outside' ? 'from outside' : 'no',
    vmid,
    node,
    name,
  }))
  if (options.json) {
    printJson(rows)
    return
  }
  tell(`${place.target}: Proxmox VE ${pve.version.text}\n`)
  if (rows.length === 0) {
    tell(`no templates on ${place.target} yet; build one: imagebuild run <image>\n`)
  } else {
    print(formatTable(['image', 'version', 'state', 'verified', 'vmid', 'node'], rows))
  }
}
