import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { Access } from '../../../src/lab/api/access.ts'
import { readMessages } from '../../../src/lab/api/console.ts'
import { defaultBootOrder, formatSize, parseSize } from '../../../src/lab/api/guests/drives.ts'
import { GuestStore } from '../../../src/lab/api/guests/store.ts'
import { checkPreamble } from '../../../src/lab/api/multipart.ts'
import { privilegesOf } from '../../../src/lab/api/privileges.ts'
import { Tasks } from '../../../src/lab/api/tasks.ts'
import { RELEASES } from '../../../src/lab/release.ts'

let dir: string
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'lab-api-'))
})
afterEach(() => rm(dir, { recursive: true, force: true }))

describe('multipart preamble', () => {
  const part = (header: string, text = '') => `--b\r\n${header}\r\n\r\n${text}\r\n`
  const content = part('Content-Disposition: form-data; name="content"', 'iso')
  const file = part('Content-Disposition: form-data; name="filename"; filename="x.iso"')

  test('asks for more until the file begins', () => {
    expect(checkPreamble(content.slice(0, 20), 'b')).toBe('more')
    expect(checkPreamble(content, 'b')).toBe('more')
    expect(checkPreamble(content + file, 'b')).toBe('fine')
  })

  test.each([
    [
      'an unknown field',
      content + part('Content-Disposition: form-data; name="foo"', 'bar') + file,
      'Bad Request',
    ],
    [
      'another name for the file',
      part('Content-Disposition: form-data; name="file"; filename="x"'),
      "wrong field name 'file'",
    ],
    [
      'another header first',
      part('Content-Type: a/b\r\nContent-Disposition: form-data; name="filename"'),
      'upload failed',
    ],
    ['a boundary that is not there', 'xxxxxxxx', 'upload failed'],
  ])('refuses %s', (_name, text, message) => {
    expect(() => checkPreamble(text, 'b')).toThrow(message)
  })
})

describe('tasks', () => {
  test('end with their status and keep their log over a restart', async () => {
    const tasks = new Tasks(dir)
    await tasks.load()
    const upid = tasks.start({ node: 'lab', type: 'test', id: '100', user: 'a@pve!b' }, async ({ log }) => {
      log('one')
      throw new Error('it broke\n')
    })
    expect(tasks.isRunning(upid)).toBe(true)
    await tasks.ended(upid)
    const later = new Tasks(dir)
    await later.load()
    expect(later.find(upid)).toMatchObject({ exitstatus: 'it broke', user: 'a@pve!b', id: '100' })
    expect(await later.log(upid)).toEqual(['one', 'TASK ERROR: it broke'])
  })

  test('warnings are a success of their own', async () => {
    const tasks = new Tasks(dir)
    await tasks.load()
    const upid = tasks.start({ node: 'lab', type: 'test', id: '', user: 'root@pam' }, async ({ warn }) =>
      warn('careful'),
    )
    await tasks.ended(upid)
    expect(tasks.find(upid).exitstatus).toBe('WARNINGS: 1')
  })

  test('can be interrupted', async () => {
    const tasks = new Tasks(dir)
    await tasks.load()
    const upid = tasks.start({ node: 'lab', type: 'test', id: '', user: 'root@pam' }, ({ signal }) => {
      return new Promise((_resolve, reject) => signal.addEventListener('abort', () => reject(signal.reason)))
    })
    await tasks.stopAll()
    expect(tasks.find(upid).exitstatus).toBe('received interrupt')
  })
})

describe('access', () => {
  test('an entry nearer to the path replaces what came from above; tokens have what both have', async () => {
    const access = new Access(dir, privilegesOf(RELEASES[9]))
    await access.load()
    access.state.users['u@pve'] = { enable: 1, expire: 0, groups: [], tokens: {} }
    const secret = await access.createToken('u@pve', 't', { expire: 0, privsep: 1 })
    const acl = (path: string, type: 'user' | 'token', ugid: string, roleid: string) =>
      access.state.acl.push({ path, type, ugid, roleid, propagate: 1 })
    acl('/', 'user', 'u@pve', 'PVEVMAdmin')
    acl('/vms/100', 'user', 'u@pve', 'NoAccess')
    acl('/vms', 'token', 'u@pve!t', 'PVEAuditor')
    expect(access.permissions('u@pve', '/vms/101')).toHaveProperty(['VM.Allocate'])
    expect(access.permissions('u@pve', '/vms/100')).toEqual({})
    expect(access.permissions('u@pve!t', '/vms/101')).toEqual({ 'VM.Audit': 1, 'VM.GuestAgent.Audit': 1 })
    const caller = access.identify({ method: 'POST', authorization: `PVEAPIToken=u@pve!t=${secret}` })
    expect(caller).toEqual({ authid: 'u@pve!t', userid: 'u@pve', token: true })
    expect(() => access.require(caller, '/vms/101', ['VM.Allocate'])).toThrow(
      'Permission check failed (/vms/101, VM.Allocate)',
    )
  })

  test('tickets hold over a restart, and nobody can make them', async () => {
    const access = new Access(dir, privilegesOf(RELEASES[9]))
    await access.load()
    const ticket = access.ticket('PVE', 'root@pam')
    const later = new Access(dir, privilegesOf(RELEASES[9]))
    await later.load()
    expect(later.verifyTicket('PVE', ticket, 60)).toBe('root@pam')
    expect(later.verifyTicket('PVE', ticket.replace('root', 'rook'), 60)).toBeUndefined()
    expect(later.verifyTicket('PVEVNC', ticket, 60)).toBeUndefined()
  })
})

describe('guest locks', () => {
  test('come in turn, and give up in the words of Proxmox', async () => {
    const store = new GuestStore(dir, 'lab')
    const release = await store.acquire(100, 1)
    await expect(store.acquire(100, 0.01)).rejects.toThrow(
      "can't lock file '/var/lock/qemu-server/lock-100.conf' - got timeout",
    )
    const next = store.acquire(100, 10)
    release()
    ;(await next)()
    expect(() => store.need(100)).toThrow(
      "Configuration file 'nodes/lab/qemu-server/100.conf' does not exist",
    )
  })
})

test('sizes and boot order as Proxmox prints them', () => {
  expect([3 * 1024 ** 3, 3584 * 1024 ** 2, 540672, 1000].map(formatSize)).toEqual([
    '3G',
    '3584M',
    '528K',
    '1000',
  ])
  expect(parseSize('1.5G')).toBe(1.5 * 1024 ** 3)
  expect(defaultBootOrder({ scsi0: 'a:1', ide2: 'none,media=cdrom', net1: 'virtio' })).toBe(
    'order=scsi0;ide2;net1',
  )
  expect(defaultBootOrder({})).toBe(' ')
})

test('what is typed at the console arrives whole', () => {
  const { input, rest } = readMessages(Buffer.from('1:80:24:0:3:a\n:20:5:par'))
  expect(input.toString()).toBe('a\n:')
  expect(rest.toString()).toBe('0:5:par')
})
