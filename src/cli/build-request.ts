import { join } from 'node:path'
import type { BuildRequest } from '../build/context.ts'
import type { Emit } from '../core/events.ts'
import type { Project } from '../definition/load.ts'
import type { ImageSpec } from '../definition/spec.ts'
import { thisOwner } from '../pve/owner.ts'
import { buildFolder, cacheFolder, reportsFolder } from './folders.ts'
import type { Invocation } from './invocation.ts'
import type { Connected } from './target.ts'

/** What the engine must know to work on one image: from the command line, the project and the target. */
export async function requestFor(
  image: ImageSpec,
  from: {
    invocation: Invocation
    project: Project
    connected: Connected
    options: BuildRequest['options']
    emit: Emit
  },
): Promise<BuildRequest> {
  const { invocation, project, connected, options, emit } = from
  return {
    image,
    ancestors: ancestorsOf(image, project),
    ...connected,
    namespace: project.namespace,
    options,
    secrets: invocation.secrets,
    emit,
    cacheDir: cacheFolder(),
    keptDir: join(buildFolder(project.root), 'kept'),
    reportsDir: reportsFolder(project.root, connected.place.target),
    root: project.root,
    owner: await thisOwner(),
    tool: invocation.version,
  }
}

function ancestorsOf(image: ImageSpec, project: Project): ImageSpec[] {
  const parent = project.images.get(parentOf(image) ?? '')
  return parent === undefined ? [] : [parent, ...ancestorsOf(parent, project)]
}

/** The image of ours that it is built upon. */
export function parentOf({ source }: ImageSpec): string | undefined {
  return source.kind === 'image' ? source.image : undefined
}

export function parentNameOf({ images }: Pick<Project, 'images'>, name: string): string | undefined {
  const image = images.get(name)
  return image && parentOf(image)
}
