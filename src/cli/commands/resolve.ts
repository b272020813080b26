import { suggest } from '../../core/did-you-mean.ts'
import { ImagebuildError } from '../../core/errors.ts'
import { clusterTemplates, nodeTemplates, select, type Template } from '../../pve/templates.ts'
import type { Invocation } from '../invocation.ts'
import { openProject } from '../project.ts'
import { type Connected, connectTarget } from '../target.ts'

/** Prints one VMID. Nothing found: exit 1 and an empty stdout. */
export async function resolve(
  invocation: Invocation,
  wanted: string,
  options: { target?: string; node?: string },
): Promise<void> {
  const [image = '', selector = 'current'] = wanted.split('@')
  const project = await openProject(invocation, [])
  await using connected = await connectTarget(invocation, project, options.target, () => {})
  const template = await findTemplate(connected, project.namespace, image, selector, options.node)
  if (template === undefined) {
    throw new ImagebuildError({
      code: 'not_found',
      what: `there is no ${selector} template of ${image} on ${connected.place.target}`,
      next: nextFor(image, selector, project.imageNames),
    })
  }
  process.stdout.write(`${template.vmid}\n`)
}

function nextFor(image: string, selector: string, known: readonly string[]): string {
  if (selector !== 'current') return 'imagebuild list shows the versions that there are'
  if (known.includes(image)) return `build it: imagebuild run ${image}`
  return suggest(image, known, 'images here') ?? 'imagebuild list shows what there is'
}

/**
 * By one request for the whole cluster. Only where that finds nothing, the node is asked too: it knows of a
 * template from its first moment, the cluster's list some seconds later.
 */
export async function findTemplate(
  { pve, place }: Connected,
  namespace: string,
  image: string,
  selector: string,
  node?: string,
): Promise<Template | undefined> {
  return (
    select(await clusterTemplates(pve, namespace), image, selector, node) ??
    select(await nodeTemplates(pve, node ?? place.node, namespace), image, selector, node)
  )
}
