import { describe, expect, test } from 'vitest'
import { type ApplianceRow, findAppliance } from '../../src/source/appliance.ts'

const SUM = 'cd'.repeat(64)
const row = (name: string, version: string, change: Partial<ApplianceRow> = {}): ApplianceRow => {
  const architecture = change.architecture ?? 'amd64'
  const template = `${name}_${version}_${architecture}.tar.zst`
  return {
    template,
    package: name,
    version,
    architecture,
    type: 'lxc',
    section: 'system',
    sha512sum: SUM,
    location: `http://download.proxmox.com/images/system/${template}`,
    ...change,
  }
}
const LIST = [
  row('debian-12-standard', '12.10-1'),
  row('debian-12-standard', '12.7-1', { sha512sum: 'ab'.repeat(64) }),
  row('debian-13-standard', '13.1-2', { architecture: 'arm64' }),
  row('ubuntu-24.04-standard', '24.04-2'),
  row('debian-12-turnkey-nginx', '18.1-1', { section: 'turnkeylinux' }),
  row('alpine-3.22-default', '20250617', { template: 'alpine-3.22-default_20250617_amd64.tar.xz' }),
  row('debian-6.0-standard', '6.0-6', { type: 'openvz' }),
]
const at = { node: 'pve', where: { file: 'images/a/image.yaml', line: 3, column: 1 } }
const find = (wanted: string, arch: 'amd64' | 'arm64' = 'amd64') => findAppliance(LIST, wanted, arch, at)

test('one that is bare tar', () => {
  const template = 'debian-13-standard_13.1-1_amd64.tar'
  const list = [row('debian-13-standard', '13.1-1', { template })]
  const wanted = ['debian-13-standard', 'debian-13-standard_13.1-1', template.slice(0, -4), template]
  for (const name of wanted) expect(findAppliance(list, name, 'amd64', at).template).toBe(template)
})

test('a package is its newest version', () => {
  expect(find('debian-12-standard')).toEqual({
    template: 'debian-12-standard_12.10-1_amd64.tar.zst',
    version: '12.10-1',
    checksum: { algorithm: 'sha512', value: SUM },
    identity: `sha512:${SUM}`,
  })
})

test.each([
  'debian-12-standard_12.7-1',
  'debian-12-standard_12.7-1_amd64',
  'debian-12-standard_12.7-1_amd64.tar.zst',
])('%s is one version', (wanted) => {
  expect(find(wanted)).toMatchObject({ version: '12.7-1', identity: `sha512:${'ab'.repeat(64)}` })
})

test('of several architectures, the one that is built for', () => {
  const both = [row('x', '1', { architecture: 'arm64' }), row('x', '1')]
  expect(findAppliance(both, 'x', 'arm64', at).template).toBe('x_1_arm64.tar.zst')
  expect(findAppliance(both, 'x', 'amd64', at).template).toBe('x_1_amd64.tar.zst')
})

test.each([undefined, 'not a sum'])('without a strong sum (%s), its name is its identity', (sha512sum) => {
  const { sha512sum: _, ...weak } = row('x', '1')
  expect(findAppliance([{ ...weak, ...(sha512sum && { sha512sum }) }], 'x', 'amd64', at)).toEqual({
    template: 'x_1_amd64.tar.zst',
    version: '1',
    identity: 'appliance:x_1_amd64.tar.zst',
  })
})

describe('what is not there', () => {
  const refused = (work: () => unknown, facts: object) =>
    expect(work).toThrow(expect.objectContaining({ code: 'not_found', where: at.where, ...facts }))

  test.each<[string, object]>([
    ['debian-12-standart', { next: expect.stringContaining('did you mean `debian-12-standard`?') }],
    [
      'plan9',
      {
        what: 'there is no appliance plan9',
        next: expect.stringContaining(
          'systems there: alpine-3.22-default, debian-12-standard, debian-13-standard, ubuntu-24.04-standard',
        ),
      },
    ],
    ['debian-6.0-standard', { what: 'there is no appliance debian-6.0-standard' }],
    [
      'debian-12-standard_12.2-1_amd64.tar.zst',
      {
        why: 'of debian-12-standard, the list of pve has debian-12-standard_12.10-1_amd64.tar.zst, debian-12-standard_12.7-1_amd64.tar.zst',
        next: expect.stringContaining('pveam update'),
      },
    ],
    [
      'debian-13-standard',
      { what: expect.stringMatching(/for amd64$/), why: expect.stringMatching(/arm64$/) },
    ],
  ])('%s', (wanted, facts) => refused(() => find(wanted), facts))

  test('any list at all', () =>
    refused(() => findAppliance([], 'debian-12-standard', 'amd64', at), {
      what: 'pve has no list of appliances',
      next: 'on pve, as root: pveam update',
    }))
})
