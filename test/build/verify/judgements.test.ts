import { describe, expect, test } from 'vitest'
import type { Entered } from '../../../src/build/verify/enter.ts'
import type { Facts } from '../../../src/build/verify/facts.ts'
import { judgeHealth } from '../../../src/build/verify/health.ts'
import { judgeIdentity, type Looked } from '../../../src/build/verify/identity.ts'
import type { Result } from '../../../src/build/verify/report.ts'
import { PveError } from '../../../src/pve/errors.ts'
import type { Guest } from '../../../src/pve/guest.ts'

/** What facts of a machine mean. */

const failed = (results: readonly Result[]) =>
  Object.fromEntries(results.flatMap(({ id, outcome, found }) => (outcome === 'failed' ? [[id, found]] : [])))

describe('two clones', () => {
  const looked = (
    n: string,
    change: Record<string, string[]> = {},
    hostKeys = [`ssh-ed25519 KEY${n}`],
  ): Looked => ({
    entered: {
      clone: {
        role: `verify-${n}`,
        name: `ib-verify-${n}-web`,
        identity: { mac: `02:1B:00:00:00:0${n.toUpperCase()}` },
      },
      address: `192.0.2.${n === 'a' ? 1 : 2}`,
      hostKeys,
    } as unknown as Entered,
    facts: new Map(
      Object.entries({
        'machine-id': [n.repeat(32)],
        hostname: [`ib-verify-${n}-web`],
        addresses: [`192.0.2.${n === 'a' ? 1 : 2}/24`],
        cards: [`00:00:00:00:00:00\n02:1b:00:00:00:0${n}`],
        secret: [`/var/lib/systemd/credential.secret ${n}`],
        'private-key': [`${n} /etc/ssl/private/own.key`],
        ...change,
      }),
    ),
  })

  test('that share nothing are fine', () => {
    expect(judgeIdentity(looked('a'), looked('b'), []).map(({ outcome }) => outcome)).toEqual(
      Array(6).fill('passed'),
    )
  })

  test.each([
    [
      'machine-id',
      { 'machine-id': ['a'.repeat(32)] },
      `/etc/machine-id is ${'a'.repeat(32)} in both: it is in the template`,
    ],
    ['machine-id', { 'machine-id': ['uninitialized'] }, '/etc/machine-id holds "uninitialized"'],
    [
      'hostname',
      { hostname: ['localhost'] },
      'verify-b is called localhost, and was told to be ib-verify-b-web',
    ],
    ['address', { addresses: ['192.0.2.9/24'] }, 'verify-b has 192.0.2.9 instead of 192.0.2.2'],
    [
      'secrets',
      { secret: ['/var/lib/systemd/credential.secret a'] },
      '/var/lib/systemd/credential.secret is the same in both: it is in the template',
    ],
  ])('%s: %j', (id, change, found) => {
    expect(failed(judgeIdentity(looked('a'), looked('b', change), []))).toEqual({ [id]: found })
  })

  test('with one private key are refused by its path, unless the definition has put it there', () => {
    const keys = { 'private-key': ['1 /etc/app/a b.key', '2 /etc/app/wanted.key'] }
    const judged = (written: readonly string[]) =>
      failed(judgeIdentity(looked('a', keys), looked('b', keys), written))
    expect(judged(['/etc/app/wanted.key'])).toEqual({
      'private-keys': expect.stringMatching(
        /^\/etc\/app\/a b\.key is the same in both[^\n]*\nremove it in the last layer[^\n]*$/,
      ),
    })
    expect(judged(['/etc/app/wanted.key', '/etc/app/a b.key'])).toEqual({})
  })

  test('with one host key are refused, also where the others differ', () => {
    const results = judgeIdentity(
      looked('a', {}, ['ssh-ed25519 X', 'ssh-rsa Y']),
      looked('b', {}, ['ssh-ed25519 Z', 'ssh-rsa Y']),
      [],
    )
    expect(failed(results)).toEqual({ 'host-keys': 'both have the same ssh-rsa key: it is in the template' })
  })
})

describe('the health of a clone', () => {
  const GIB = 2 ** 30
  const guest = (kind: 'vm' | 'lxc', answers = true) =>
    ({ kind, agentAnswers: async () => answers }) as unknown as Guest
  const good: Record<string, string> = {
    system: 'running',
    'cloud-init': 'done',
    'cloud-init-result': '{"v1":{"datasource":"DataSourceNoCloud","errors":[]}}',
    'cloud-init-status': '{"v1":{"stage":"modules","init":{"errors":[],"recoverable_errors":{}}}}',
    'guest-agent': '/usr/sbin/qemu-ga',
    'root-disk': `/dev/sda1 ${4 * GIB} ${4 * GIB} ${5 * GIB - 2 ** 20} ${5 * GIB}`,
  }
  const facts = (change: Record<string, string> = {}): Facts =>
    new Map(Object.entries({ ...good, ...change }).map(([name, value]) => [name, [value]]))
  const health = async (change: Record<string, string>, of = guest('vm')) =>
    failed(await judgeHealth(facts(change), of))

  test('is good', async () => {
    expect((await judgeHealth(facts(), guest('vm'))).map(({ outcome }) => outcome)).toEqual(
      Array(5).fill('passed'),
    )
  })

  test.each([
    [{ system: 'starting' }, 'boot', 'systemd says: starting'],
    [{ 'failed-units': 'a.service: exit-code' }, 'units', 'a.service: exit-code'],
    [{ 'cloud-init': 'disabled' }, 'cloud-init', 'it is disabled'],
    [{ 'cloud-init': 'running' }, 'cloud-init', 'it has not come to an end'],
    [{ 'cloud-init-result': '{"v1":{"datasource":"x","errors":["bad"]}}' }, 'cloud-init', 'bad'],
    [
      {
        'cloud-init-status':
          '{"v1":{"init":{"recoverable_errors":{"WARNING":["no such module"],"DEPRECATED":["old"]}}}}',
      },
      'cloud-init',
      'warning: no such module',
    ],
    [
      { 'root-disk': `/dev/sda1 ${3 * GIB} ${4 * GIB} ${5 * GIB} ${5 * GIB}` },
      'root-disk',
      'the file system has 3072 MiB of the 4096 MiB of /dev/sda1',
    ],
    [
      { 'root-disk': `/dev/sda1 ${4 * GIB} ${4 * GIB} ${4 * GIB} ${5 * GIB}` },
      'root-disk',
      '/dev/sda1 ends 1024 MiB before its disk of 5120 MiB',
    ],
  ] as [Record<string, string>, string, string][])('%j', async (change, id, found) => {
    expect(await health(change)).toEqual({ [id]: found })
  })

  test('what cloud-init calls deprecated is no fault: Proxmox writes such user-data', async () => {
    const stage = `{"errors":[],"recoverable_errors":{"DEPRECATED":["Use of string for 'user' is deprecated"],"INFO":["x"]}}`
    // The whole of it as cloud-init 25.1 writes it; `degraded done` and exit 2 follow from these levels.
    const status = `{"v1":{"datasource":"DataSourceNoCloud","stage":null,"init-local":${stage},"modules-config":${stage}}}`
    expect(await health({ 'cloud-init-status': status })).toEqual({})
  })

  test('a silent agent counts where it is installed', async () => {
    expect(await health({}, guest('vm', false))).toEqual({
      'guest-agent': 'it is installed, and does not answer',
    })
    expect(await health({ 'guest-agent': '' }, guest('vm', false))).toEqual({})
  })

  test('an agent that Proxmox forbids us to ask is not asked', async () => {
    const message = 'Permission check failed (/vms/100, VM.Monitor)'
    const facts403 = { method: 'POST', path: '/ping', delivery: 'answered', status: 403, message } as const
    const forbidden = {
      kind: 'vm',
      agentAnswers: () => Promise.reject(new PveError(facts403)),
    } as unknown as Guest
    const results = await judgeHealth(facts(), forbidden)
    expect(results.find(({ id }) => id === 'guest-agent')).toMatchObject({
      outcome: 'skipped',
      found: `Proxmox forbids us to ask it: ${message}`,
    })
  })

  test('a container without a data source has no cloud-init, and one that ran without is wrong', async () => {
    expect(await health({ 'cloud-init': 'disabled' }, guest('lxc'))).toEqual({})
    const none = { 'cloud-init-result': '{"v1":{"datasource":"DataSourceNone","errors":[]}}' }
    expect(await health(none, guest('lxc'))).toEqual({ 'cloud-init': 'it has run, and found no data source' })
  })
})
