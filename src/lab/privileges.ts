import type { Release } from './release.ts'

/** The role of the lab's own API token: what building, verifying and keeping templates takes, and no more. */
export const ROLE = 'Imagebuild'

const EVERYWHERE = [
  'VM.Allocate',
  'VM.Audit',
  'VM.Backup',
  'VM.Clone',
  'VM.Config.CDROM',
  'VM.Config.CPU',
  'VM.Config.Cloudinit',
  'VM.Config.Disk',
  'VM.Config.HWType',
  'VM.Config.Memory',
  'VM.Config.Network',
  'VM.Config.Options',
  'VM.Console',
  'VM.PowerMgmt',
  'VM.Snapshot',
  'VM.Snapshot.Rollback',
  'Datastore.Allocate',
  'Datastore.AllocateSpace',
  'Datastore.AllocateTemplate',
  'Pool.Allocate',
  'Pool.Audit',
  'SDN.Use',
  'Sys.AccessNetwork',
  'Sys.Audit',
]

/** To ask a machine's guest agent for addresses and to run commands there. */
export const rolePrivileges = ({ agent }: Release): string[] => [...EVERYWHERE, ...agent.anything].sort()
