import * as containers from '../containers/lifecycle.ts'
import { summary as containerSummary } from '../containers/status.ts'
import { rootVolume } from '../containers/values.ts'
import { findStorage, type Lab } from '../router.ts'
import type { Say } from '../tasks.ts'
import { drivesOf, isCdrom, ownsVolume, storageOf } from './drives.ts'
import * as machines from './lifecycle.ts'
import { summary } from './status.ts'
import type { Guest, GuestConfig, GuestType } from './store.ts'

type Log = (line: string) => void

/** A volume of a guest, and the name of a snapshot of it. */
interface SnapshotOf {
  lab: Lab
  vmid: number
  slot: string
  volid: string
  name: string
  running: boolean
}

/** What the two kinds of guests differ in, where a call is the same for both. */
interface Kind {
  /** the first letters of its tasks' types */
  tasks: 'qm' | 'vz'
  isRunning(lab: Lab, vmid: number): Promise<boolean>
  start(lab: Lab, vmid: number, say: Say): Promise<void>
  stop(lab: Lab, vmid: number): Promise<void>
  shutDown(lab: Lab, vmid: number, seconds: number, force: boolean, log: Log): Promise<void>
  /** slot and volid of what snapshots hold */
  disks(config: GuestConfig): [string, string][]
  /** volids of all that goes with the guest */
  volumes(config: GuestConfig): string[]
  snapshot(of: SnapshotOf, log: Log): Promise<void>
  deleteSnapshot(of: SnapshotOf): Promise<void>
  /** its row in lists */
  summary(lab: Lab, guest: Guest): Promise<Record<string, unknown>>
}

const root = (config: GuestConfig): [string, string][] => {
  const volid = rootVolume(config)
  return volid === undefined ? [] : [['rootfs', volid]]
}

const QEMU: Kind = {
  tasks: 'qm',
  isRunning: (lab, vmid) => machines.isRunning(lab, vmid),
  start: (lab, vmid, { log }) => machines.startGuest(lab, vmid, log),
  stop: (lab, vmid) => lab.machines.stop(vmid),
  shutDown: (...all) => machines.shutDown(...all),
  disks: (config) =>
    drivesOf(config)
      .filter(([, drive]) => !isCdrom(drive))
      .map(([slot, drive]) => [slot, drive.file]),
  volumes: (config) =>
    drivesOf(config)
      .filter(([, drive]) => ownsVolume(drive))
      .map(([, drive]) => drive.file),
  async snapshot({ lab, vmid, slot, volid, name, running }, log) {
    log(`snapshotting 'drive-${slot}' (${volid})`)
    if (running) await lab.machines.snapshotDrive(vmid, slot, name)
    else await findStorage(lab, storageOf(volid)).snapshot(volid, name)
  },
  async deleteSnapshot({ lab, vmid, slot, volid, name, running }) {
    if (running) await lab.machines.deleteDriveSnapshot(vmid, slot, name)
    else await findStorage(lab, storageOf(volid)).deleteSnapshot(volid, name)
  },
  summary: async (lab, guest) => summary(guest, await lab.machines.status(guest.vmid)),
}

const LXC: Kind = {
  tasks: 'vz',
  isRunning: (lab, vmid) => containers.isRunning(lab, vmid),
  start: (lab, vmid, say) => containers.startContainer(lab, vmid, say),
  stop: (lab, vmid) => lab.containers.stop(vmid),
  shutDown: (...all) => containers.shutDown(...all),
  disks: root,
  volumes: (config) => root(config).map(([, volid]) => volid),
  snapshot: ({ lab, vmid, volid, name }) =>
    lab.containers.frozen(vmid, () => findStorage(lab, storageOf(volid)).snapshot(volid, name)),
  deleteSnapshot: ({ lab, volid, name }) => findStorage(lab, storageOf(volid)).deleteSnapshot(volid, name),
  summary: async (lab, guest) => containerSummary(guest, await lab.containers.status(guest.vmid)),
}

export const KINDS: Record<GuestType, Kind> = { qemu: QEMU, lxc: LXC }
