import { ImagebuildError } from '../core/errors.ts'
import type { Identity } from '../plan/network.ts'
import { bootContainer } from './boot-container.ts'
import { bootMachine } from './boot-machine.ts'
import type { Build } from './context.ts'
import type { BuildGuest } from './guest.ts'
import type { PlacedSource } from './placement.ts'

/** Creates a guest from the source, with a way in for us, and starts it. */
export async function bootGuest(build: Build, source: PlacedSource, identity: Identity): Promise<BuildGuest> {
  const { image } = build
  if (image.kind === 'vm' && source.kind !== 'archive')
    return await bootMachine(build, image, source, identity)
  if (image.kind === 'lxc' && source.kind === 'archive')
    return await bootContainer(build, image, source, identity)
  throw new ImagebuildError({
    code: 'definition_invalid',
    what: `${image.name} (${image.kind}) cannot be made from a ${source.kind}`,
    where: image.source.where,
  })
}
