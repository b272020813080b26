import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { Access } from '../../src/lab/api/access.ts'
import { privilegesOf } from '../../src/lab/api/privileges.ts'
import { readConfig } from '../../src/lab/config.ts'
import { rolePrivileges } from '../../src/lab/privileges.ts'
import { MAJORS, RELEASES } from '../../src/lab/release.ts'

async function inFolder<T>(work: (dir: string) => Promise<T>): Promise<T> {
  const dir = await mkdtemp(join(tmpdir(), 'imagebuild-release-'))
  try {
    return await work(dir)
  } finally {
    await rm(dir, { recursive: true })
  }
}

test('config.json names one of those that there are', () =>
  inFolder(async (dir) => {
    const config = async (pve: unknown) => {
      await writeFile(join(dir, 'config.json'), JSON.stringify({ pve }))
      return (await readConfig(dir, {})).pve
    }
    expect([await config(8), await config(9), await config(undefined)]).toEqual([8, 9, undefined])
    await expect(config(7)).rejects.toThrow(/pve/)
  }))

test.each(MAJORS)('the role of the lab’s token has privileges that release %i knows', (major) => {
  const known = privilegesOf(RELEASES[major]).all
  expect(rolePrivileges(RELEASES[major]).filter((name) => !known.includes(name))).toEqual([])
})

test('a role of an older release has what there still is', () =>
  inFolder(async (dir) => {
    const access = new Access(dir, privilegesOf(RELEASES[9]))
    access.state.users['eve@pve'] = { enable: 1, expire: 0, groups: [], tokens: {} }
    access.state.roles.Old = ['VM.Audit', 'VM.Monitor']
    access.state.acl = [{ path: '/', type: 'user', ugid: 'eve@pve', roleid: 'Old', propagate: 1 }]
    expect(access.permissions('eve@pve', '/vms/100')).toEqual({ 'VM.Audit': 1 })
  }))

test.each([
  ['info status', 'nothing', 'nothing'],
  ['help', 'nothing', 'nothing'],
  [' sendkey ret', 'Sys.Modify', 'Sys.Modify'],
  ['?', 'Sys.Modify', 'nothing'],
  ['information', 'Sys.Modify', 'unlisted'],
  ['drive_add 0 file=/etc/shadow', 'Sys.Modify', 'root@pam'],
])('the monitor’s command %o takes %s on 8, %s on 9', (command, eight, nine) => {
  expect(MAJORS.map((major) => RELEASES[major].monitor.need(command))).toEqual([eight, nine])
})
