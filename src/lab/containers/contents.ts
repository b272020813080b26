import { rm } from 'node:fs/promises'
import type { ContainerSpec, ContainerSystem, Log } from '../world.ts'
import { pack, unpack } from './archive.ts'
import { makeFileSystem } from './file-system.ts'
import { rootId } from './id-map.ts'
import { MountedRoot } from './mounted-root.ts'
import { setUp, setUpClone, setUpNew } from './setup/setup.ts'
import { Tree } from './setup/tree.ts'

/** What is done to the files of a container that does not run. The words on them are in Containers (world.ts). */

export interface NewAccess {
  password?: string
  sshPublicKeys?: string
  /** DNS server of containers whose configuration names none */
  nameserver: string
}

export async function createContents(
  spec: ContainerSpec,
  archive: string,
  access: NewAccess,
  log: Log,
  signal?: AbortSignal,
): Promise<ContainerSystem> {
  await using root = await filledRoot(spec, archive, log, signal)
  signal?.throwIfAborted()
  return await setUpNew(treeOf(root, spec), spec, access, log)
}

export async function restoreContents(
  spec: ContainerSpec,
  archive: string,
  log: Log,
  signal?: AbortSignal,
): Promise<void> {
  await using _ = await filledRoot(spec, archive, log, signal)
}

/** A dump that was not completed is removed. */
export async function dumpContents(
  spec: ContainerSpec,
  target: string,
  log: Log,
  signal?: AbortSignal,
): Promise<void> {
  await using root = await MountedRoot.open(spec.root, { readOnly: true, signal })
  try {
    await pack(root, target, spec.unprivileged, log)
  } catch (error) {
    await rm(target, { force: true })
    signal?.throwIfAborted()
    throw error
  }
}

export async function prepareStart(spec: ContainerSpec, nameserver: string): Promise<ContainerSystem> {
  await using root = await MountedRoot.open(spec.root)
  return await setUp(treeOf(root, spec), spec, nameserver)
}

export async function prepareClone(spec: ContainerSpec): Promise<ContainerSystem> {
  await using root = await MountedRoot.open(spec.root)
  return await setUpClone(treeOf(root, spec), spec)
}

async function filledRoot(
  spec: ContainerSpec,
  archive: string,
  log: Log,
  signal: AbortSignal | undefined,
): Promise<MountedRoot> {
  await makeFileSystem(spec.root, spec.unprivileged, log)
  const root = await MountedRoot.open(spec.root, { signal })
  try {
    log(`extracting archive '${archive}'`)
    await unpack(root, archive, spec.unprivileged, log)
    return root
  } catch (error) {
    await root[Symbol.asyncDispose]()
    throw error
  }
}

function treeOf(root: MountedRoot, { unprivileged }: ContainerSpec): Tree {
  return new Tree(root.path, rootId(unprivileged))
}
