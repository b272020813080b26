import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { Access, type Acl, type Caller } from '../../../src/lab/api/access.ts'
import { privilegesOf } from '../../../src/lab/api/privileges.ts'
import { RELEASES } from '../../../src/lab/release.ts'

/** One question about many guests must have the answers of many questions about one. */
test.each<[string, Omit<Acl, 'type' | 'ugid'>[]]>([
  ['nothing', []],
  ['everything', [{ path: '/', roleid: 'Auditor', propagate: 1 }]],
  ['all guests but what is not handed on', [{ path: '/vms', roleid: 'Auditor', propagate: 0 }]],
  ['one guest', [{ path: '/vms/101', roleid: 'Auditor', propagate: 1 }]],
  [
    'all but one',
    [
      { path: '/vms', roleid: 'Auditor', propagate: 1 },
      { path: '/vms/101', roleid: 'NoAccess', propagate: 1 },
    ],
  ],
  ['a pool', [{ path: '/pool/team', roleid: 'Auditor', propagate: 1 }]],
])('who may see %s', async (_, entries) => {
  const dir = await mkdtemp(join(tmpdir(), 'lab-access-'))
  try {
    const access = new Access(dir, privilegesOf(RELEASES[9]))
    const caller: Caller = { authid: 'eve@pve', userid: 'eve@pve', token: false }
    access.state.users['eve@pve'] = { enable: 1, expire: 0, groups: [], tokens: {} }
    access.state.roles.Auditor = ['VM.Audit']
    access.state.pools.team = { vms: [102], storages: [] }
    access.state.acl = entries.map((entry) => ({ ...entry, type: 'user', ugid: 'eve@pve' }))
    const guests = [100, 101, 102]
    const visible = access.allowedGuests(caller, ['VM.Audit'])
    expect(guests.map(visible)).toEqual(
      guests.map((vmid) => access.allowed(caller, `/vms/${vmid}`, ['VM.Audit'])),
    )
  } finally {
    await rm(dir, { recursive: true })
  }
})
