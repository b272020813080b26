import type { Release } from '../release.ts'

/** The privileges of Proxmox VE and its built-in roles. */

const BY_AREA = {
  VM: {
    root: [],
    admin: [
      ...['Config.Disk', 'Config.CPU', 'Config.Memory', 'Config.Network', 'Config.HWType', 'Config.Options'],
      ...['Allocate', 'Clone', 'Migrate', 'Snapshot', 'Snapshot.Rollback'],
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
const ALL: readonly Level[] = ['root', 'admin', 'user', 'audit']

export interface Privileges {
  /** every privilege that there is */
  readonly all: readonly string[]
  /** name → privileges */
  readonly builtInRoles: Readonly<Record<string, readonly string[]>>
}

export function privilegesOf({ guestPrivileges }: Release): Privileges {
  const of = (areas: readonly Area[], levels: readonly Level[]): string[] => {
    const found = areas.flatMap((area) =>
      levels.flatMap((level) => [
        ...BY_AREA[area][level].map((name) => `${area}.${name}`),
        ...(area === 'VM' && level !== 'root' ? guestPrivileges[level] : []),
      ]),
    )
    return [...new Set(found)].sort()
  }
  const areas = Object.keys(BY_AREA) as Area[]
  const admin = (...wanted: Area[]) => of(wanted, ['admin', 'user', 'audit'])
  const user = (area: Area) => of([area], ['user', 'audit'])
  const all = of(areas, ALL)
  return {
    all,
    builtInRoles: {
      Administrator: all,
      NoAccess: [],
      PVEAdmin: admin(...areas).filter((name) => name !== 'Mapping.Modify'),
      PVEAuditor: of(areas, ['audit']),
      PVEDatastoreAdmin: admin('Datastore'),
      PVEDatastoreUser: user('Datastore'),
      PVEMappingAdmin: admin('Mapping'),
      PVEMappingUser: user('Mapping'),
      PVEPoolAdmin: admin('Pool'),
      PVEPoolUser: user('Pool'),
      PVESDNAdmin: admin('SDN'),
      PVESDNUser: user('SDN'),
      PVESysAdmin: admin('Sys'),
      PVETemplateUser: ['VM.Audit', 'VM.Clone'],
      PVEUserAdmin: admin('User', 'Group', 'Realm'),
      PVEVMAdmin: admin('VM'),
      PVEVMUser: user('VM'),
    },
  }
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
