/** The privileges of Proxmox VE 8 and its built-in roles. */

const BY_AREA = {
  VM: {
    root: [],
    admin: [
      ...['Config.Disk', 'Config.CPU', 'Config.Memory', 'Config.Network', 'Config.HWType', 'Config.Options'],
      ...['Allocate', 'Clone', 'Migrate', 'Monitor', 'Snapshot', 'Snapshot.Rollback'],
    ],
    user: ['Config.CDROM', 'Config.Cloudinit', 'Console', 'Backup', 'PowerMgmt'],
    audit: ['Audit'],
  },
  Sys: {
    root: ['PowerMgmt', 'Modify', 'Incoming', 'AccessNetwork'],
    admin: ['Console', 'Syslog'],
    user: [],
    audit: ['Audit'],
  },
  Datastore: {
    root: [],
    admin: ['Allocate', 'AllocateTemplate'],
    user: ['AllocateSpace'],
    audit: ['Audit'],
  },
  SDN: { root: [], admin: ['Allocate', 'Audit'], user: ['Audit', 'Use'], audit: ['Audit'] },
  User: { root: [], admin: ['Modify'], user: [], audit: [] },
  Group: { root: [], admin: ['Allocate'], user: [], audit: [] },
  Realm: { root: ['Allocate'], admin: ['AllocateUser'], user: [], audit: [] },
  Pool: { root: [], admin: ['Allocate'], user: ['Audit'], audit: ['Audit'] },
  Mapping: { root: [], admin: ['Modify'], user: ['Use'], audit: ['Audit'] },
  Permissions: { root: ['Modify'], admin: [], user: [], audit: [] },
} as const

type Area = keyof typeof BY_AREA
type Level = 'root' | 'admin' | 'user' | 'audit'

function of(areas: readonly Area[], levels: readonly Level[]): string[] {
  const all = areas.flatMap((area) =>
    levels.flatMap((level) => BY_AREA[area][level].map((name) => `${area}.${name}`)),
  )
  return [...new Set(all)].sort()
}

const AREAS = Object.keys(BY_AREA) as Area[]

/** Every privilege that PVE 8 knows. */
export const PRIVILEGES: readonly string[] = of(AREAS, ['root', 'admin', 'user', 'audit'])

export const BUILT_IN_ROLES: Record<string, readonly string[]> = {
  Administrator: PRIVILEGES,
  NoAccess: [],
  PVEAdmin: of(AREAS, ['admin', 'user', 'audit']),
  PVEAuditor: of(AREAS, ['audit']),
  PVEDatastoreAdmin: of(['Datastore'], ['admin', 'user', 'audit']),
  PVEDatastoreUser: of(['Datastore'], ['user', 'audit']),
  PVEMappingAdmin: of(['Mapping'], ['admin', 'user', 'audit']),
  PVEMappingAuditor: of(['Mapping'], ['audit']),
  PVEMappingUser: of(['Mapping'], ['user', 'audit']),
  PVEPoolAdmin: of(['Pool'], ['admin', 'user', 'audit']),
  PVEPoolUser: of(['Pool'], ['user', 'audit']),
  PVESDNAdmin: of(['SDN'], ['admin', 'user', 'audit']),
  PVESDNUser: of(['SDN'], ['user', 'audit']),
  PVESysAdmin: of(['Sys'], ['admin', 'user', 'audit']),
  PVETemplateUser: ['VM.Audit', 'VM.Clone'],
  PVEUserAdmin: of(['User', 'Group', 'Realm'], ['admin', 'user', 'audit']),
  PVEVMAdmin: of(['VM'], ['admin', 'user', 'audit']),
  PVEVMUser: of(['VM'], ['user', 'audit']),
}

/** Which privileges the web interface is told of per area, in a ticket's `cap`. */
export const CAPABILITY_AREAS: Record<string, RegExp> = {
  access: /^(User|Group|Permissions)\./,
  dc: /^(Sys\.Audit|Sys\.Modify|SDN\.)/,
  mapping: /^(Mapping|Permissions)\./,
  nodes: /^(Sys|Permissions)\./,
  sdn: /^(SDN|Permissions)\./,
  storage: /^(Datastore|Permissions)\./,
  vms: /^(VM|Permissions)\./,
}
