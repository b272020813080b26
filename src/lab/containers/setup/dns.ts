import type { ContainerSpec } from '../../world.ts'
import { withManagedBlock } from './managed-block.ts'
import type { Tree } from './tree.ts'

/** /etc/resolv.conf; `fallback`: the server of a container whose configuration names none. */
export async function setDns(tree: Tree, spec: ContainerSpec, fallback: string): Promise<void> {
  const servers = (spec.nameserver ?? fallback).split(/[\s,;]+/).filter(Boolean)
  await tree.write(
    '/etc/resolv.conf',
    withManagedBlock('', [
      ...(spec.searchdomain ? [`search ${spec.searchdomain.split(/[\s,;]+/).join(' ')}`] : []),
      ...servers.map((server) => `nameserver ${server}`),
    ]),
  )
}
