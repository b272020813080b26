import { describe, expect, test } from 'vitest'
import type { ImagebuildError } from '../../src/core/errors.ts'
import { connect } from '../../src/pve/client.ts'
import { agentPrivilege, effective, type Need } from '../../src/pve/permissions.ts'
import type { Credentials } from '../../src/pve/session.ts'
import { rejection, selfSigned, startFake, TOKEN } from './server.ts'

const identity = await selfSigned()

/** A server on which the paths have these privileges, and a client of it. */
async function granted(
  rights: Record<string, string[]>,
  auth: Credentials = { kind: 'token', token: TOKEN },
) {
  const fake = await startFake(identity)
  fake.on('POST /access/ticket', { json: { data: { ticket: 'PVE:T', username: 'root@pam' } } })
  fake.on('GET /access/permissions', ({ query }) => {
    const path = query.get('path') ?? ''
    const names = rights[path]
    return { json: { data: names ? { [path]: Object.fromEntries(names.map((name) => [name, 1])) } : {} } }
  })
  const pve = await connect({
    endpoint: fake.endpoint,
    tls: { fingerprint: identity.fingerprint },
    auth,
    signal: AbortSignal.timeout(120_000),
  })
  return {
    fake,
    pve,
    async [Symbol.asyncDispose]() {
      await pve[Symbol.asyncDispose]()
      await fake[Symbol.asyncDispose]()
    },
  }
}

const STORAGE: Need = {
  path: '/storage/local',
  privileges: [
    'Datastore.AllocateTemplate',
    'Datastore.Allocate',
    ['Datastore.Audit', 'Datastore.AllocateSpace'],
  ],
  why: 'upload images',
}
const GUEST: Need = {
  path: ['/vms/9000', '/pool/images'],
  privileges: ['VM.Allocate', 'VM.Audit'],
  why: 'create VM 9000',
}

describe('what is missing', () => {
  test('nothing; one question for each path', async () => {
    await using at = await granted({
      '/storage/local': ['Datastore.AllocateTemplate', 'Datastore.Allocate', 'Datastore.AllocateSpace'],
      '/vms/9000': ['VM.Audit'],
      '/pool/images': ['VM.Allocate'],
    })
    await at.pve.requirePrivileges([STORAGE, GUEST, { ...STORAGE, why: 'again' }])
    const asked = at.fake.of('GET /access/permissions').map(({ query }) => query.get('path'))
    expect(asked.toSorted()).toEqual(['/pool/images', '/storage/local', '/vms/9000'])
    expect(at.pve.writes).toBe(0)
  })

  test('all of it at once, with the lines that grant it', async () => {
    await using at = await granted({
      '/storage/local': ['Datastore.AllocateTemplate'],
      '/vms/9000': ['VM.Audit'],
    })
    const error = await rejection<ImagebuildError>(at.pve.requirePrivileges([STORAGE, GUEST]))
    expect(error).toMatchObject({ code: 'permission_denied', exitCode: 77 })
    expect(error.what).toBe('builder@pve!t1 lacks 3 privileges on Proxmox')
    expect(error.why?.split('\n')).toEqual([
      '/storage/local: Datastore.Allocate (to upload images)',
      '/storage/local: Datastore.Audit or Datastore.AllocateSpace (to upload images)',
      '/vms/9000: VM.Allocate (to create VM 9000)',
    ])
    // Whole roles: an ACL on a path hides what is inherited there.
    expect(error.next).toContain(
      "pveum role add ImagebuildStorage --privs 'Datastore.Allocate,Datastore.AllocateTemplate,Datastore.Audit'",
    )
    expect(error.next).toContain("pveum role add ImagebuildVms --privs 'VM.Allocate,VM.Audit'")
    expect(error.next).toContain(
      "pveum acl modify /vms/9000 --roles ImagebuildVms --users 'builder@pve' --tokens 'builder@pve!t1'",
    )
  })

  test('what the pool grants is not asked for on all guests', async () => {
    const tags: Need = { path: '/vms', privileges: ['VM.Config.Options'], why: 'tag the guest' }
    const guest: Need = { ...GUEST, path: ['/vms', '/pool/images'] }
    await using at = await granted({ '/pool/images': ['VM.Allocate', 'VM.Audit'] })
    const error = await rejection<ImagebuildError>(at.pve.requirePrivileges([guest, tags]))
    expect(error.why).toBe('/vms: VM.Config.Options (to tag the guest)')
    expect(error.next).toContain("pveum role add ImagebuildVms --privs 'VM.Config.Options' ")
  })

  test('the ticket of root@pam is not even asked about', async () => {
    await using at = await granted({}, { kind: 'ticket', username: 'root@pam', password: 'password' })
    await at.pve.requirePrivileges([STORAGE])
    expect(at.fake.of('GET /access/permissions')).toHaveLength(0)
  })
})

describe('effective privileges in an answer', () => {
  const tree = {
    '/': { 'Sys.Audit': 1, 'Sys.Modify': 0 },
    '/vms': { 'VM.Audit': 1, 'VM.Allocate': 0 },
    '/vms/100': { 'VM.Clone': 0 },
  }
  test.each([
    ['/vms/100', ['VM.Clone']],
    ['/vms/101', ['VM.Audit']],
    ['/vms', ['VM.Audit', 'VM.Allocate']],
    ['/nodes/pve', ['Sys.Audit']],
    ['/', ['Sys.Audit', 'Sys.Modify']],
  ])('%s', (path, names) => expect([...effective(tree, path)]).toEqual(names))

  test('nothing granted anywhere', () => expect(effective({}, '/storage/local').size).toBe(0))
})

test('the guest agent: other names since Proxmox VE 9', () => {
  expect(agentPrivilege({ major: 8 }, 'audit')).toBe('VM.Monitor')
  expect(agentPrivilege({ major: 9 }, 'audit')).toEqual(['VM.GuestAgent.Audit', 'VM.GuestAgent.Unrestricted'])
  expect(agentPrivilege({ major: 8 }, 'file-read')).toBe('VM.Monitor')
  expect(agentPrivilege({ major: 9 }, 'file-read')).toEqual([
    'VM.GuestAgent.FileRead',
    'VM.GuestAgent.Unrestricted',
  ])
  expect(agentPrivilege({ major: 9 }, 'unrestricted')).toBe('VM.GuestAgent.Unrestricted')
})
