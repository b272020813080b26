import { expect, test } from 'vitest'
import { expandHardening, knownItems } from '../../src/hardening/expand.ts'
import { projectOnDisk } from '../definition/project-on-disk.ts'

/** Ids of the items that the mistakes of a definition name, with the real items. */
async function refusing(text: string): Promise<string[]> {
  const image = `name: a\nsource: { release: debian/12 }\n${text}\n`
  await using project = await projectOnDisk({ 'images/a/image.yaml': image })
  const found = await project.mistakes({ hardeningItems: knownItems() })
  return found.map((one) => /hardening\.except: \{ (\S+):/.exec(one)?.[1] ?? one)
}

test.each([
  ['hardening: cis-l1\nprovision: [{ packages: [nginx, rsync] }]', ['services-web', 'services-rsync']],
  ['hardening: baseline\nprovision: [{ packages: [nginx, rsync] }]', []],
  [
    'hardening: baseline\nprovision: [{ packages: [tftpd-hpa, ufw] }]',
    ['services-insecure', 'firewall-one-tool'],
  ],
  [
    'hardening: baseline\nprovision: [{ file: { path: /etc/sysctl.d/zz-network-forwarding.conf, content: x } }]',
    ['network-forwarding'],
  ],
  [
    'hardening: { containers: true }\nprovision: [{ file: { path: /etc/sysctl.d/zz-network-forwarding.conf, content: x } }]',
    [],
  ],
  ['hardening: baseline\nprovision: [{ file: { path: /etc/motd, content: x } }]', []],
])('%j is refused by %j', async (text, ids) => {
  expect((await refusing(text)).sort()).toEqual([...ids].sort())
})

test('an exception of what an ancestor has applied is told as inherited, never as off', () => {
  const where = { file: 'images/base/image.yaml', line: 3, column: 1 }
  const except = { 'accounts-su': 'we need it', 'network-forwarding': 'a router' }
  const inherited = { 'accounts-su': { image: 'base', where } }
  const machine = { kind: 'vm', unprivileged: false, containerHost: false, postQuantum: false } as const
  const { left } = expandHardening({ profile: 'baseline', except, inherited, where }, machine)
  const off = left.filter(({ because }) => because !== 'not-applicable')
  expect(off.map(({ id, because, reason }) => [id, because, reason])).toEqual([
    [
      'accounts-su',
      'inherited',
      'we need it; applied by base (images/base/image.yaml:3), which stays unless a layer undoes it',
    ],
    ['network-forwarding', 'excepted', 'a router'],
  ])
})
