import { mkdir, rm } from 'node:fs/promises'
import { chooseAccelerator } from './accelerator.ts'
import type { LabConfig, StorageConfig } from './config.ts'
import { LxcContainers } from './containers/containers.ts'
import { DirStorage } from './dir-storage.ts'
import { QemuMachines } from './machines.ts'
import { labNames } from './names.ts'
import { LabNetwork } from './network.ts'
import { FIRST_NODE, storageFolder } from './nodes.ts'
import { PoolStorage } from './pool-storage.ts'
import type { Subnet } from './subnet.ts'
import type { Storage } from './world.ts'

/** What clients of the API call the lab's bridge. */
export const BRIDGE = 'vmbr0'

/** The world below the API of one lab: storages, network and guests, in the state in which they were left. */
export interface Host {
  /** of the first node */
  storages: Storage[]
  /** of a further one: its own, and those that all nodes share */
  storagesOf(node: string): Promise<Storage[]>
  machines: QemuMachines
  containers: LxcContainers
  subnet: Subnet
}

export async function openHost(dir: string, config: LabConfig, onEnd: () => void): Promise<Host> {
  const names = labNames(dir)
  const network = new LabNetwork({ dir, names })
  const storages = await Promise.all(config.storages.map((storage) => openStorage(dir, FIRST_NODE, storage)))
  const storagesOf = (node: string) =>
    Promise.all(
      config.storages.map(
        async (storage, index) =>
          (storage.shared && storages[index]) || (await openStorage(dir, node, storage)),
      ),
    )
  await mkdir(names.runtime, { recursive: true, mode: 0o700 })
  const subnet = await network.up()
  const bridge = (name: string) => {
    if (name !== BRIDGE) throw new Error(`bridge '${name}' does not exist`)
    return names.bridge
  }
  const machines = new QemuMachines({
    dir,
    names,
    accelerator: await chooseAccelerator(),
    attach: async (tap, name) => {
      bridge(name)
      await network.attach(tap)
    },
    onEnd,
  })
  const containers = new LxcContainers({ dir, names, bridge, nameserver: subnet.gateway, onEnd })
  await Promise.all([machines.open(), containers.open()])
  return { storages, storagesOf, machines, containers, subnet }
}

/** Ends all guests and takes the network away: nothing of the lab is left but its folder. Repeating it does no harm. */
export async function closeHost(dir: string, open?: Host): Promise<void> {
  const names = labNames(dir)
  const { machines, containers } = open ?? (await abandoned(dir))
  await Promise.all([machines.stopAll(), containers.stopAll()])
  machines.close()
  containers.close()
  await new LabNetwork({ dir, names }).down()
  await rm(names.runtime, { recursive: true, force: true })
}

/** The guests of a lab whose daemon is no more: nothing will be started here any more. */
async function abandoned(dir: string): Promise<Pick<Host, 'machines' | 'containers'>> {
  const names = labNames(dir)
  const machines = new QemuMachines({ dir, names, accelerator: 'tcg', attach: async () => {} })
  const containers = new LxcContainers({ dir, names, bridge: () => names.bridge, nameserver: '' })
  await Promise.all([machines.open(), containers.open()])
  return { machines, containers }
}

async function openStorage(dir: string, node: string, config: StorageConfig): Promise<Storage> {
  const { id, type, content, limit, shared } = config
  const options = { id, root: storageFolder(dir, node, id, shared), content, limit, shared }
  const storage = type === 'dir' ? new DirStorage(options) : new PoolStorage(type, options)
  await storage.open()
  return storage
}
