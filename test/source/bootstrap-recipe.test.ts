import { describe, expect, test } from 'vitest'
import { diskFiles, systemFiles } from '../../src/source/bootstrap-files.ts'
import {
  type BootstrapRecipe,
  bootstrapIdentity,
  bootstrapSuites,
  recipeFor,
  recipePackages,
} from '../../src/source/bootstrap-recipe.ts'
import { proxyOptions } from '../../src/source/bootstrap-tree.ts'
import { containerFiles, containerHooks } from '../../src/source/container-files.ts'

const bookworm: BootstrapRecipe = { distribution: 'debian', suite: 'bookworm', arch: 'amd64' }

describe('identity', () => {
  test('follows suite, architecture, packages and kind', () => {
    const identities = [
      bootstrapIdentity(bookworm),
      bootstrapIdentity(bookworm, 'rootfs'),
      bootstrapIdentity({ ...bookworm, suite: 'trixie' }),
      bootstrapIdentity({ ...bookworm, arch: 'arm64' }),
      bootstrapIdentity({ ...bookworm, packages: ['htop'] }),
    ]
    expect(new Set(identities).size).toBe(identities.length)
    for (const identity of identities) expect(identity).toMatch(/^sha256:[0-9a-f]{64}$/)
  })

  test('does not follow the mirror, nor the order or repetition of packages', () => {
    expect(bootstrapIdentity({ ...bookworm, mirror: 'http://mirror.example/debian' })).toBe(
      bootstrapIdentity(bookworm),
    )
    expect(bootstrapIdentity({ ...bookworm, packages: ['b', 'a', 'sudo'] })).toBe(
      bootstrapIdentity({ ...bookworm, packages: ['a', 'b'] }),
    )
  })
})

const allRecipes = bootstrapSuites().map(
  ({ distribution, suite }) => ({ distribution, suite, arch: 'amd64' }) as BootstrapRecipe,
)

test.each(allRecipes)('a disk of $suite has kernel, boot loader, cloud-init and agent', (recipe) => {
  const disk = recipePackages(recipe, 'disk')
  expect(disk).toEqual(
    expect.arrayContaining(['cloud-init', 'qemu-guest-agent', 'shim-signed', 'openssh-server', 'netplan.io']),
  )
  expect(disk.some((name) => name.startsWith('linux-image-'))).toBe(true)
})

test.each(['disk', 'rootfs'] as const)('a %s of Debian 13 lets users ping, as its own images do', (kind) => {
  expect(recipePackages({ ...bookworm, suite: 'trixie' }, kind)).toContain('linux-sysctl-defaults')
  expect(recipePackages(bookworm, kind)).not.toContain('linux-sysctl-defaults')
})

describe('a container', () => {
  test.each(allRecipes)(
    'of $suite has no kernel, and nothing that would fight over its network',
    (recipe) => {
      const rootfs = recipePackages(recipe, 'rootfs')
      expect(rootfs).toContain('openssh-server')
      expect(
        rootfs.filter((name) =>
          /linux-image|grub|shim|initramfs|netplan|resolved|timesyncd|cloud/.test(name),
        ),
      ).toEqual([])
      expect(rootfs.includes('ifupdown')).toBe(recipe.distribution === 'debian')
    },
  )

  test('has cloud-init where that is asked for, with a seed in a folder and no network of its own', () => {
    const recipe = { ...bookworm, packages: ['cloud-init'] }
    expect(recipePackages(recipe, 'rootfs')).toContain('cloud-init')
    expect(bootstrapIdentity(recipe, 'rootfs')).not.toBe(bootstrapIdentity(bookworm, 'rootfs'))
    const content = containerFiles(recipe)
      .map((file) => file.content)
      .join('')
    expect(content).toContain('network: { config: disabled }\n')
  })

  test('is known to a DHCP server by its MAC', () => {
    expect(containerHooks(bookworm).join('\n')).toContain('send dhcp-client-identifier = hardware;')
    const noble = { distribution: 'ubuntu', suite: 'noble', arch: 'amd64' } as const
    expect(containerFiles(noble)).toContainEqual({
      path: '/etc/systemd/network/eth0.network.d/10-client-identifier.conf',
      content: '[DHCPv4]\nClientIdentifier=mac\n',
    })
    expect(containerHooks(noble).join('\n')).toContain('enable systemd-networkd.service')
  })
})

test('an unknown suite names those that are known', () => {
  expect(() => recipePackages({ ...bookworm, suite: 'buster' }, 'disk')).toThrow(
    expect.objectContaining({ code: 'definition_invalid', next: expect.stringContaining('debian bookworm') }),
  )
  expect(() => recipePackages({ ...bookworm, distribution: 'ubuntu' }, 'disk')).toThrow('no bootstrap recipe')
})

test('stands in for catalog releases', () => {
  expect(recipeFor('debian/13', 'amd64')).toEqual({ distribution: 'debian', suite: 'trixie', arch: 'amd64' })
  expect(recipeFor('ubuntu/24.04-minimal', 'arm64')?.suite).toBe('noble')
  expect(recipeFor('debian/12', 'amd64', ['cloud-init'])?.packages).toEqual(['cloud-init'])
  expect(recipeFor('fedora/40', 'amd64')).toBeUndefined()
})

test('a guest gets the public archives, whatever it was built from', () => {
  const sources = (recipe: BootstrapRecipe) =>
    systemFiles(recipe).find((file) => file.path === '/etc/apt/sources.list')?.content
  expect(sources({ ...bookworm, mirror: 'http://10.0.0.1/debian' })).toBe(
    'deb http://deb.debian.org/debian bookworm main\n' +
      'deb http://deb.debian.org/debian bookworm-updates main\n' +
      'deb http://security.debian.org/debian-security bookworm-security main\n',
  )
  expect(sources({ distribution: 'ubuntu', suite: 'noble', arch: 'arm64' })).toContain(
    'http://ports.ubuntu.com/ubuntu-ports noble-security',
  )
})

test('fstab finds its file systems by UUID', () => {
  const fstab = diskFiles({ root: 'ROOT', esp: '12AB-34CD' }).find(
    (file) => file.path === '/etc/fstab',
  )?.content
  expect(fstab?.split('\n').map((line) => line.split(' ').slice(0, 3).join(' '))).toEqual([
    'UUID=ROOT / ext4',
    'UUID=12AB-34CD /boot/efi vfat',
    '',
  ])
})

test('of the settings of apt, only the proxy is taken over', () => {
  const dump =
    'Acquire::http::Proxy "http://10.0.0.1:3142";\nAcquire::https::Proxy "";\nAPT::Default-Release "sid";\nAcquire::http::Proxy::deb.debian.org "DIRECT";\n'
  expect(proxyOptions(dump)).toEqual([
    '--aptopt=Acquire::http::Proxy "http://10.0.0.1:3142"',
    '--aptopt=Acquire::http::Proxy::deb.debian.org "DIRECT"',
  ])
})
