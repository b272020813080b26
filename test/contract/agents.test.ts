import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import type { Fields, Reply } from './client.ts'
import { guestCalls } from './guest-calls.ts'
import { ownGrants } from './own-user.ts'
import { RELEASES, startTarget, type Target } from './target.ts'

/** Clauses 18.3 to 18.6 of pve.md: the guest agent and the monitor, of a virtual machine that does not run. */

describe.each(RELEASES)('$name', ({ pve }) => {
  let target: Target
  let machines: ReturnType<typeof guestCalls>
  let vmid: number
  let isNine: boolean

  beforeAll(async () => {
    target = await startTarget(pve && { pve })
    isNine = target.version >= 9
    machines = guestCalls(target, 'qemu')
    vmid = await machines.create({ memory: 64, agent: 1 })
  })
  afterAll(() => target?.stop())

  const granted = ownGrants(() => target)
  afterEach(() => granted.takeBack())

  const path = (what: string) => machines.path(vmid, what)
  const monitor = (command: string, client = target.client): Promise<Reply> =>
    client.post(path('/monitor'), { command })
  const unrestricted = (...names: string[]) =>
    [...names, 'Unrestricted'].map((name) => `VM.GuestAgent.${name}`)

  test.each<[method: 'get' | 'post', call: string, nine: string[], fields?: Fields]>([
    ['post', 'agent/ping', unrestricted('Audit')],
    ['get', 'agent/info', unrestricted('Audit')],
    ['get', 'agent/get-osinfo', unrestricted('Audit')],
    ['get', 'agent/network-get-interfaces', unrestricted('Audit')],
    ['post', 'agent/fsfreeze-status', unrestricted('Audit', 'FileSystemMgmt')],
    ['post', 'agent/fsfreeze-freeze', unrestricted('FileSystemMgmt')],
    ['post', 'agent/fstrim', unrestricted('FileSystemMgmt')],
    ['post', 'agent/shutdown', ['VM.PowerMgmt', ...unrestricted()]],
    ['post', 'agent/suspend-ram', ['VM.PowerMgmt', ...unrestricted()]],
    ['get', 'agent/file-read', unrestricted('FileRead'), { file: '/a' }],
    ['post', 'agent/file-write', unrestricted('FileWrite'), { file: '/a', content: 'b' }],
    ['post', 'agent/exec', unrestricted(), { command: 'true' }],
    ['get', 'agent/exec-status', unrestricted(), { pid: 1 }],
    ['post', 'agent/set-user-password', unrestricted(), { username: 'a', password: 'secret' }],
    ['post', 'agent', [...unrestricted(), ...unrestricted()], { command: 'ping' }],
    ['post', 'monitor', ['Sys.Audit', 'Sys.Modify'], { command: 'info status' }],
  ])('18.3 %s %s takes one of %s on 9.2', async (method, call, nine, fields = {}) => {
    const powerless = await granted.user(`powerless-${method}-${call.replace('/', '-')}`)
    const privileges = isNine ? nine.join('|') : 'VM.Monitor'
    expect(await powerless[method](path(`/${call}`), fields)).toMatchObject({
      ...{ status: 403, reason: `Permission check failed (/vms/${vmid}, ${privileges})` },
    })
  })

  test('18.4 the monitor’s commands that tell take no more; those that change something ask for Sys.Modify', async () => {
    const reader = await granted.user('reader', { '/vms': isNine ? 'PVEAuditor' : 'PVEVMAdmin' })
    for (const command of ['info status', 'help']) {
      expect((await monitor(command, reader)).body.data).toMatch(/^ERROR: .*not running/)
    }
    expect(await monitor('sendkey ret', reader)).toMatchObject({
      ...{ status: 403, reason: 'Permission check failed (/, Sys.Modify)' },
    })
    expect((await monitor('sendkey ret')).body.data).toMatch(/^ERROR: .*not running/)
  })

  test.each([
    ['change ide2 /etc/passwd', "root-only command 'change'"],
    [
      'suite_unheard_of 1',
      "command 'suite_unheard_of' non-existent or not assigned a required permission yet, limiting to root user",
    ],
  ])('18.4 on 9.2 root@pam alone may say %j', async (command, nine) => {
    const reply = await monitor(command)
    if (isNine) expect(reply).toMatchObject({ status: 500, reason: nine })
    else expect(reply.body.data).toMatch(/^ERROR: .*not running/)
    if (target.root) expect((await monitor(command, target.root)).body.data).toMatch(/^ERROR: .*not running/)
  })

  test('18.5 a part of a file can be asked for', async () => {
    const part = { file: '/etc/hostname', offset: 2, count: 3, decode: 0 }
    const reply = await target.client.get(path('/agent/file-read'), part)
    const unknown = 'property is not defined in schema and the schema does not allow additional properties'
    if (isNine) expect(reply).toMatchObject({ status: 500, reason: `VM ${vmid} is not running` })
    else expect(reply.body.errors).toEqual({ offset: unknown, count: unknown, decode: unknown })
  })

  test('18.6 the agent’s calls are listed', async () => {
    const names = ((await target.client.get(path('/agent'))).body.data as { name: string }[]).map(
      ({ name }) => name,
    )
    expect(names).toEqual([
      ...['exec', 'exec-status', 'file-read', 'file-write', 'fsfreeze-freeze', 'fsfreeze-status'],
      ...['fsfreeze-thaw', 'fstrim', 'get-fsinfo', 'get-host-name', 'get-memory-block-info'],
      ...['get-memory-blocks', 'get-osinfo', 'get-time', 'get-timezone', 'get-users', 'get-vcpus', 'info'],
      ...['network-get-interfaces', 'ping', 'set-user-password', 'shutdown', 'suspend-disk'],
      ...['suspend-hybrid', 'suspend-ram'],
    ])
  })
})
