import { describe, expect, test } from 'vitest'
import {
  containerParameters,
  containerTemplateParameters,
  featuresParameter,
} from '../../src/build/container.ts'
import { privilegesNeeded, requireTicketForFeatures, verifyPrivileges } from '../../src/build/privileges.ts'
import type { ImageSpec } from '../../src/definition/spec.ts'
import type { Place } from '../../src/pve/place.ts'
import { imageSpec, lxcSpec } from '../plan/spec.ts'
import { PLACE } from '../pve/memory-proxmox.ts'

const POOL: Place = {
  ...PLACE,
  vlan: 30,
  addresses: { first: '192.0.2.100', last: '192.0.2.119', prefix: 24, gateway: '192.0.2.1' },
  dns: ['192.0.2.1', '192.0.2.2'],
}
const MAC = '02:1B:00:00:00:01'
const common = { archive: 'local:vztmpl/a.tar.zst', authorizedKey: 'ssh-ed25519 AAAA' }

describe('a container that is built', () => {
  test('has the address and the MAC of its identity, and the target’s name servers', () => {
    const identity = { mac: MAC, address: '192.0.2.104' }
    expect(containerParameters({ image: lxcSpec(), place: POOL, identity, ...common })).toMatchObject({
      ostemplate: 'local:vztmpl/a.tar.zst',
      'ssh-public-keys': 'ssh-ed25519 AAAA',
      hostname: 'web',
      rootfs: 'local-lvm:4',
      unprivileged: true,
      net0: `name=eth0,bridge=vmbr0,hwaddr=${MAC},ip=192.0.2.104/24,gw=192.0.2.1,tag=30`,
      nameserver: '192.0.2.1 192.0.2.2',
    })
  })

  test('asks DHCP where the target has no pool, and its name servers too', () => {
    const made = containerParameters({ image: lxcSpec(), place: PLACE, identity: { mac: MAC }, ...common })
    expect(made.net0).toBe(`name=eth0,bridge=vmbr0,hwaddr=${MAC},ip=dhcp`)
    expect(made).not.toHaveProperty('nameserver')
    expect(made).not.toHaveProperty('features')
  })

  test('shows the messages of its boot on its console, and its template what Proxmox shows of others', () => {
    const identity = { mac: MAC }
    expect(containerParameters({ image: lxcSpec(), place: PLACE, identity, ...common }).cmode).toBe('console')
    expect(containerTemplateParameters(lxcSpec(), PLACE, 'web')).not.toHaveProperty('cmode')
  })

  test('gets what `build` says while it is built, and its template what `hardware` says', () => {
    const build = { bootTimeout: 900, timeout: 7200, cores: 4, memory: 4096 }
    const image = lxcSpec({ build })
    const identity = { mac: MAC }
    expect(containerParameters({ image, place: PLACE, identity, ...common })).toMatchObject({
      cores: 4,
      memory: 4096,
    })
    const template = containerTemplateParameters(image, PLACE, 'web-20260101.1')
    expect(template).toEqual({
      cores: 1,
      memory: 512,
      swap: 512,
      hostname: 'web-20260101.1',
      net0: 'name=eth0,bridge=vmbr0,ip=dhcp',
    })
  })

  test('a root file system may have a size that is no whole number of GiB', () => {
    const image = lxcSpec({ hardware: { cores: 1, memory: 512, swap: 0, rootfs: 1.5 * 2 ** 30 } })
    expect(containerParameters({ image, place: PLACE, identity: { mac: MAC }, ...common }).rootfs).toBe(
      'local-lvm:1.5',
    )
  })
})

describe('features', () => {
  const token = { kind: 'token', user: 'root@pam!all' } as const
  const root = { kind: 'ticket', user: 'root@pam' } as const
  const nesting = lxcSpec({ features: { nesting: true } })

  test('are written as Proxmox does', () => {
    expect(featuresParameter(lxcSpec())).toBeUndefined()
    expect(featuresParameter(nesting)).toBe('nesting=1')
    const all = lxcSpec({ features: { nesting: true, keyctl: true, fuse: false, mount: ['nfs', 'cifs'] } })
    expect(featuresParameter(all)).toBe('nesting=1,keyctl=1,mount=nfs;cifs')
  })

  test('nesting of an unprivileged container is for everybody', () => {
    expect(() => requireTicketForFeatures(token, nesting)).not.toThrow()
    expect(() => requireTicketForFeatures(token, lxcSpec({ unprivileged: false }))).not.toThrow()
    expect(() => requireTicketForFeatures(token, imageSpec())).not.toThrow()
  })

  test.each([
    ['another one', lxcSpec({ features: { nesting: true, keyctl: true } }), /other features than nesting/],
    [
      'any of a privileged one',
      lxcSpec({ features: { nesting: true }, unprivileged: false }),
      /privileged container/,
    ],
  ])('%s is for root@pam by password, which is said before anything is built', (_, image, why) => {
    expect(() => requireTicketForFeatures(token, image)).toThrow(
      expect.objectContaining({ code: 'permission_denied', why: expect.stringMatching(why) }),
    )
    expect(() => requireTicketForFeatures({ ...token, kind: 'ticket', user: 'me@pve' }, image)).toThrow()
    expect(() => requireTicketForFeatures(root, image)).not.toThrow()
  })
})

describe('privileges', () => {
  const version = { major: 8, minor: 4, text: '8.4' }
  const all = (image = lxcSpec()) => privilegesNeeded(image, PLACE, version)
  const at = (path: string, image = lxcSpec()) =>
    all(image)
      .filter((need) => [need.path].flat().includes(path))
      .flatMap((need) => need.privileges.flat())

  test('a container needs no agent, no drives, and nothing of the storage for images', () => {
    const place = { ...PLACE, storages: { ...PLACE.storages, images: 'elsewhere' } }
    expect(at('/vms')).not.toContain('VM.Monitor')
    expect(at('/vms')).not.toContain('VM.Config.Cloudinit')
    expect(privilegesNeeded(lxcSpec(), place, version).flatMap((need) => need.path)).not.toContain(
      '/storage/elsewhere',
    )
  })

  test('verifying asks for the guest agent of machines, by the names of each version', () => {
    const asked = (image: ImageSpec, major: number) =>
      verifyPrivileges(image, PLACE, { major, minor: 0, text: '' }).flatMap((need) => need.privileges)
    expect(asked(lxcSpec(), 8)).toEqual(['VM.Clone'])
    expect(asked(imageSpec(), 8)).toEqual(['VM.Clone', 'VM.Monitor'])
    expect(asked(imageSpec(), 9)).toEqual([
      'VM.Clone',
      ['VM.GuestAgent.Audit', 'VM.GuestAgent.Unrestricted'],
      ['VM.GuestAgent.FileRead', 'VM.GuestAgent.Unrestricted'],
    ])
  })

  test('only an archive that is kept must be deletable: that of a build that fails afterwards', () => {
    expect(at('/storage/local')).not.toContain('Datastore.Allocate')
    expect(at('/storage/local', lxcSpec({ template: { tags: [], archive: true, keep: 3 } }))).toContain(
      'Datastore.Allocate',
    )
  })
})
