import { describe, expect, test } from 'vitest'
import { PveError, PveTaskError } from '../../src/pve/errors.ts'

/** The words of Proxmox VE 9.2 and 8.4. */
const refusal = (tag: string) => `Permission check failed (/, Sys.Modify for modifying tag '${tag}')`

const inCall = (tag: string) =>
  new PveError({
    ...{ method: 'PUT', path: '/nodes/pve/lxc/9000/config', delivery: 'answered' },
    ...{ status: 403, reason: refusal(tag), message: `${refusal(tag)}\n` },
  })

const inTask = (tag: string) =>
  new PveTaskError({
    ...{ upid: 'UPID:pve:1', type: 'qmcreate', id: '9900', output: [] },
    exitstatus: `unable to create VM 9900 - 403 ${refusal(tag)}`,
  })

const DATACENTER = '/etc/pve/datacenter.cfg'

describe('tags that datacenter.cfg does not let a token give', () => {
  test.each([
    ['a call that is refused', inCall],
    ['a task that fails', inTask],
  ])('are known by the words of %s', (_, of) => {
    const error = of('ib-claim')
    expect(error).toMatchObject({ code: 'permission_denied', exitCode: 77 })
    expect(error.what).toBe('Proxmox does not let these credentials give a guest the tag ib-claim')
    expect(error.why).toContain('datacenter.cfg restricts tags (user-tag-access, registered-tags)')
    expect(error.why).toContain(refusal('ib-claim'))
    expect(error.next).toContain(`write \`user-tag-access: user-allow=free\` into ${DATACENTER}`)
    expect(error.next).toContain('`registered-tags`')
  })

  test('of which Proxmox VE 9.2 names none where it creates a machine', () => {
    const { what, next } = inTask('HASH(0x5581b2c1c0a8)')
    expect(what).toBe('Proxmox does not let these credentials give a guest tags')
    expect(next).toContain('user-allow=free')
  })

  test('and that are the definition’s own', () => {
    const { what, next } = inCall('debian')
    expect(what).toContain('the tag debian')
    expect(next).toMatch(/^take debian out of `template\.tags` in image\.yaml, or out of `registered-tags`/)
  })

  test('call for no privilege', () => {
    for (const error of [inCall('ib-claim'), inTask('ib-claim'), inCall('debian')]) {
      expect(error.next).not.toContain('Sys.Modify')
      expect(error.next).not.toContain('pveum')
    }
  })
})

test('a privilege that is missing is still asked for', () => {
  const facts = { method: 'POST', path: '/nodes/pve/lxc', delivery: 'answered', status: 403 } as const
  const error = new PveError({ ...facts, message: 'Permission check failed (/, Sys.Modify)' })
  expect(error.next).toMatch(/^grant Sys\.Modify on \//)
})
