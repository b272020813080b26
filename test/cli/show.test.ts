import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { macOfAddress, macOfRole } from '../../src/plan/network.ts'
import { projectOnDisk } from '../definition/project-on-disk.ts'
import { cli } from './captured.ts'

/** Before the first build, and with a Proxmox that is not there yet: nothing listens on port 1. */

beforeEach(() => {
  for (const name of Object.keys(process.env))
    if (name.startsWith('IMAGEBUILD_') || name === 'CI') vi.stubEnv(name, undefined)
  vi.stubEnv('NO_COLOR', '1')
  vi.stubEnv('PROXMOX_VE_API_TOKEN', 'builder@pve!t1=00000000-0000-0000-0000-000000000000')
})
afterEach(() => {
  vi.unstubAllEnvs()
})

const config = (addresses: string) => `
namespace: homelab
target: home
targets:
  home:
    kind: pve
    endpoint: https://127.0.0.1:1
    node: pve
    storages: { disks: local-lvm, images: local }
    bridge: vmbr0
    addresses: ${addresses}
`
const POOL = '{ range: 192.0.2.100-192.0.2.119, prefix: 24, gateway: 192.0.2.1 }'
const IMAGES = {
  'images/machine/image.yaml': 'name: machine\nsource: { release: debian/12 }\n',
  'images/container/image.yaml': 'name: container\nkind: lxc\nsource: { release: debian/12 }\n',
}

async function show(addresses: string, ...args: string[]) {
  await using project = await projectOnDisk({ 'imagebuild.yaml': config(addresses), ...IMAGES })
  return await cli('--config', join(project.root, 'imagebuild.yaml'), 'show', ...args)
}

interface Shown {
  kind: string
  identity: { role: string; mac: string; address: string }[]
  pool: unknown
  templates: unknown
}

describe.each([
  ['machine', 'vm'],
  ['container', 'lxc'],
])('show %s', (image, kind) => {
  test('with a pool: the preferred pair of each role, and the range that they come from', async () => {
    const { code, stdout } = await show(POOL, image, '--json')
    expect(code).toBe(0)
    const shown = JSON.parse(stdout) as Shown
    expect(shown).toMatchObject({
      kind,
      pool: { first: '192.0.2.100', last: '192.0.2.119', prefix: 24, gateway: '192.0.2.1' },
      templates: null,
    })
    expect(shown.identity.map(({ role }) => role)).toEqual(['build', 'verify-a', 'verify-b'])
    for (const { mac, address } of shown.identity) expect(mac).toBe(macOfAddress('homelab', '02:1b', address))
    expect(new Set(shown.identity.map(({ address }) => address)).size).toBe(3)
    const text = await show(POOL, image)
    for (const { mac, address } of shown.identity)
      expect(text.stdout).toMatch(new RegExp(`${mac} +${address}`))
    expect(text.stdout).toContain('the next pair from 192.0.2.100 to 192.0.2.119')
    expect(text.stderr).toContain('its templates are not known: ')
  })

  test('by DHCP: the MAC of each role', async () => {
    const { code, stdout } = await show('dhcp', image, '--json')
    expect(code).toBe(0)
    expect(JSON.parse(stdout)).toMatchObject({
      kind,
      pool: null,
      identity: (['build', 'verify-a', 'verify-b'] as const).map((role) => ({
        role,
        mac: macOfRole('homelab', '02:1b', image, role),
        address: 'dhcp',
      })),
    })
    expect((await show('dhcp', image)).stdout).toContain('reserve one for each')
  })
})
