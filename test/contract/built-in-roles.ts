/** The roles that Proxmox VE brings, as 8.4.21 and 9.2.11 answer `GET /access/roles`. */

/** role → privileges that it has in 8.4 and in 9.2, as `GET /access/roles` answers */
const BOTH: Record<string, string | readonly string[]> = {
  Administrator: [
    'Datastore.Allocate Datastore.AllocateSpace Datastore.AllocateTemplate Datastore.Audit',
    'Group.Allocate Mapping.Audit Mapping.Modify Mapping.Use Permissions.Modify Pool.Allocate',
    'Pool.Audit Realm.Allocate Realm.AllocateUser SDN.Allocate SDN.Audit SDN.Use',
    'Sys.AccessNetwork Sys.Audit Sys.Console Sys.Incoming Sys.Modify Sys.PowerMgmt Sys.Syslog',
    'User.Modify VM.Allocate VM.Audit VM.Backup VM.Clone VM.Config.CDROM VM.Config.CPU',
    'VM.Config.Cloudinit VM.Config.Disk VM.Config.HWType VM.Config.Memory VM.Config.Network',
    'VM.Config.Options VM.Console VM.Migrate VM.PowerMgmt VM.Snapshot VM.Snapshot.Rollback',
  ],
  NoAccess: '',
  PVEAdmin: [
    'Datastore.Allocate Datastore.AllocateSpace Datastore.AllocateTemplate Datastore.Audit',
    'Group.Allocate Mapping.Audit Mapping.Use Pool.Allocate Pool.Audit Realm.AllocateUser',
    'SDN.Allocate SDN.Audit SDN.Use Sys.Audit Sys.Console Sys.Syslog User.Modify VM.Allocate',
    'VM.Audit VM.Backup VM.Clone VM.Config.CDROM VM.Config.CPU VM.Config.Cloudinit VM.Config.Disk',
    'VM.Config.HWType VM.Config.Memory VM.Config.Network VM.Config.Options VM.Console VM.Migrate',
    'VM.PowerMgmt VM.Snapshot VM.Snapshot.Rollback',
  ],
  PVEAuditor: 'Datastore.Audit Mapping.Audit Pool.Audit SDN.Audit Sys.Audit VM.Audit',
  PVEDatastoreAdmin: 'Datastore.Allocate Datastore.AllocateSpace Datastore.AllocateTemplate Datastore.Audit',
  PVEDatastoreUser: 'Datastore.AllocateSpace Datastore.Audit',
  PVEMappingAdmin: 'Mapping.Audit Mapping.Modify Mapping.Use',
  PVEMappingUser: 'Mapping.Audit Mapping.Use',
  PVEPoolAdmin: 'Pool.Allocate Pool.Audit',
  PVEPoolUser: 'Pool.Audit',
  PVESDNAdmin: 'SDN.Allocate SDN.Audit SDN.Use',
  PVESDNUser: 'SDN.Audit SDN.Use',
  PVESysAdmin: 'Sys.Audit Sys.Console Sys.Syslog',
  PVETemplateUser: 'VM.Audit VM.Clone',
  PVEUserAdmin: 'Group.Allocate Realm.AllocateUser User.Modify',
  PVEVMAdmin: [
    'VM.Allocate VM.Audit VM.Backup VM.Clone VM.Config.CDROM VM.Config.CPU VM.Config.Cloudinit',
    'VM.Config.Disk VM.Config.HWType VM.Config.Memory VM.Config.Network VM.Config.Options',
    'VM.Console VM.Migrate VM.PowerMgmt VM.Snapshot VM.Snapshot.Rollback',
  ],
  PVEVMUser: 'VM.Audit VM.Backup VM.Config.CDROM VM.Config.Cloudinit VM.Console VM.PowerMgmt',
}

const AGENT = ['Audit', 'FileRead', 'FileSystemMgmt', 'FileWrite'].map((name) => `VM.GuestAgent.${name}`)
const ADMIN = [...AGENT, 'VM.GuestAgent.Unrestricted', 'VM.Replicate']

/** role → what it has in one of them alone */
const MORE: Record<8 | 9, Record<string, readonly string[]>> = {
  8: { Administrator: ['VM.Monitor'], PVEAdmin: ['VM.Monitor'], PVEVMAdmin: ['VM.Monitor'] },
  9: {
    ...{ Administrator: ADMIN, PVEAdmin: ADMIN, PVEVMAdmin: ADMIN, PVEVMUser: AGENT },
    PVEAuditor: ['VM.GuestAgent.Audit'],
  },
}

/** role → privileges, sorted */
export function builtInRoles(major: 8 | 9): Record<string, string[]> {
  const words = (names: string | readonly string[] = []) => [names].flat().join(' ').split(' ')
  return Object.fromEntries(
    Object.entries(BOTH).map(([role, names]) => [
      role,
      [...words(names), ...(MORE[major][role] ?? [])].filter((name) => name !== '').sort(),
    ]),
  )
}
