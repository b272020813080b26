import { describe, expect, test } from 'vitest'
import { networkConfig } from '../../src/seed/network-config.ts'
import { renderSeed, type SeedOptions, userData } from '../../src/seed/nocloud.ts'

const OPTIONS: SeedOptions = {
  instanceId: 'run-1-build',
  hostname: 'debian-base',
  user: { name: 'imagebuild', authorizedKey: 'ssh-ed25519 AAAAuser session' },
  hostKey: { privateKey: '-----BEGIN\nhost\n-----END\n', publicKey: 'ssh-ed25519 AAAAhost host' },
  network: { kind: 'dhcp', macAddress: '02:AA:00:00:00:01' },
}

describe('the user-data', () => {
  test('is what a build needs, and no more', () => {
    expect(userData(OPTIONS).render()).toMatchInlineSnapshot(`
      "#cloud-config
      users:
        - name: imagebuild
          lock_passwd: true
          shell: /bin/sh
          ssh_authorized_keys:
            - ssh-ed25519 AAAAuser session
          sudo: ALL=(ALL) NOPASSWD:ALL
      ssh_keys:
        ed25519_private: |
          -----BEGIN
          host
          -----END
        ed25519_public: ssh-ed25519 AAAAhost host
      ssh_deletekeys: true
      disable_root: true
      manage_etc_hosts: localhost
      preserve_hostname: false
      package_update: false
      package_upgrade: false
      no_ssh_fingerprints: true
      ssh:
        emit_keys_to_console: false
      ssh_publish_hostkeys:
        enabled: false
      "
    `)
  })

  test('takes the definition’s fragments in, which may change what only saves time', () => {
    const built = userData({
      ...OPTIONS,
      guestAgent: true,
      fragments: [
        { name: 'base', config: { timezone: 'UTC', users: ['default'], packages: ['chrony'] } },
        { name: 'hosts', config: { manage_etc_hosts: true, ssh: { emit_keys_to_console: true } } },
      ],
    }).build()
    expect(built).toMatchObject({
      timezone: 'UTC',
      manage_etc_hosts: true,
      ssh: { emit_keys_to_console: true },
      packages: ['chrony', 'qemu-guest-agent'],
      runcmd: [['systemctl', 'start', '--no-block', 'qemu-guest-agent.service']],
    })
    expect(built.users).toEqual([expect.objectContaining({ name: 'imagebuild' }), 'default'])
  })

  test('a fragment cannot take the pinned host key away', () => {
    const fragments = [{ name: 'keys', config: { ssh_keys: { ed25519_private: 'another' } } }]
    expect(() => renderSeed({ ...OPTIONS, fragments })).toThrow(
      /"imagebuild's own seed" and "keys" contradict each other: both set ssh_keys.ed25519_private/,
    )
  })
})

describe('the network-config', () => {
  test('static', () => {
    const network = {
      kind: 'static',
      macAddress: '02:AA:00:00:00:01',
      address: '192.0.2.10/24',
      gateway: '192.0.2.1',
      dns: ['192.0.2.53'],
      searchDomains: ['example.test'],
      mtu: 1450,
    } as const
    expect(networkConfig(network)).toEqual({
      version: 2,
      ethernets: {
        eth0: {
          match: { macaddress: '02:aa:00:00:00:01' },
          'set-name': 'eth0',
          mtu: 1450,
          addresses: ['192.0.2.10/24'],
          routes: [{ to: '0.0.0.0/0', via: '192.0.2.1' }],
          nameservers: { addresses: ['192.0.2.53'], search: ['example.test'] },
          'link-local': [],
        },
      },
    })
  })

  test('static IPv6 keeps its link-local address', () => {
    const network = {
      kind: 'static',
      macAddress: '02:aa:00:00:00:01',
      address: '2001:db8::5/64',
      gateway: '2001:db8::1',
    } as const
    expect(networkConfig(network).ethernets).toEqual({
      eth0: {
        match: { macaddress: '02:aa:00:00:00:01' },
        'set-name': 'eth0',
        addresses: ['2001:db8::5/64'],
        routes: [{ to: '::/0', via: '2001:db8::1' }],
      },
    })
  })

  test('DHCP with the MAC as client identifier', () => {
    expect(networkConfig({ kind: 'dhcp', macAddress: '02:aa:00:00:00:01' }).ethernets).toEqual({
      eth0: {
        match: { macaddress: '02:aa:00:00:00:01' },
        'set-name': 'eth0',
        dhcp4: true,
        'dhcp-identifier': 'mac',
      },
    })
  })
})

describe('the seed', () => {
  test('is one small volume with the three documents, the same each time', () => {
    const seed = renderSeed({ ...OPTIONS, date: new Date(0) })
    expect(seed.length).toBeLessThan(64 * 1024)
    expect(seed.includes('instance-id: run-1-build\nlocal-hostname: debian-base\n')).toBe(true)
    expect(seed.includes('macaddress: 02:aa:00:00:00:01')).toBe(true)
    expect(seed.includes('#cloud-config\nusers:')).toBe(true)
    expect(renderSeed({ ...OPTIONS, date: new Date(0) }).equals(seed)).toBe(true)
  })
})
