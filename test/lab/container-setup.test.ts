import { execFileSync } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { mkdir, mkdtemp, rm, stat, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { setUp, setUpClone } from '../../src/lab/containers/setup/setup.ts'
import { Tree } from '../../src/lab/containers/setup/tree.ts'
import type { ContainerNic, ContainerSpec } from '../../src/lab/world.ts'

let dir: string
let tree: Tree
const me = process.getuid?.() ?? 0
const at = (path: string) => join(dir, 'root', path)
const text = (path: string) => readFileSync(at(path), 'utf8')

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'imagebuild-tree-'))
  await mkdir(at('etc'), { recursive: true })
  await mkdir(join(dir, 'outside'))
  await writeFile(join(dir, 'outside/secret'), 'of the node')
  tree = new Tree(at(''), me)
})
afterEach(() => rm(dir, { recursive: true, force: true }))

function spec(changes: Partial<ContainerSpec> = {}, ...nics: Partial<ContainerNic>[]): ContainerSpec {
  return {
    ...{ vmid: 100, hostname: 'ct1', arch: 'amd64', memory: 512, swap: 0, unprivileged: true, features: {} },
    ...{ root: '/nowhere', ostype: 'debian', ...changes },
    nics: nics.map((nic, index) => ({
      ...{ slot: `net${index}`, name: `eth${index}`, mac: '02:00:00:00:00:01', bridge: 'vmbr0', options: {} },
      ...nic,
    })),
  }
}

describe('a tree that is not ours', () => {
  test.each([
    ['an absolute link', () => join(dir, 'outside')],
    ['a relative link', () => '../../../../../../../../../..'],
  ])('%s in a path leads nowhere else than inside', async (_what, target) => {
    await symlink(target(), at('etc/link'))
    await tree.write('/etc/link/new', 'x')
    expect(await tree.read('/etc/link/new')).toBe('x')
    expect(await tree.read('/etc/link/secret')).toBeUndefined()
    expect(readdirSync(join(dir, 'outside'))).toEqual(['secret'])
    expect(readdirSync(dir).sort()).toEqual(['outside', 'root'])
  })

  test('a link in place of a file is replaced, not followed', async () => {
    await symlink(join(dir, 'outside/secret'), at('etc/hostname'))
    expect(await tree.read('/etc/hostname')).toBeUndefined()
    await tree.write('/etc/hostname', 'ct1\n')
    expect(text('etc/hostname')).toBe('ct1\n')
    expect(readFileSync(join(dir, 'outside/secret'), 'utf8')).toBe('of the node')
  })

  test('a link in place of the file that is to be renamed is not followed either', async () => {
    await symlink(join(dir, 'outside/secret'), at('etc/.hostname.new'))
    await tree.write('/etc/hostname', 'ct1\n')
    expect(readFileSync(join(dir, 'outside/secret'), 'utf8')).toBe('of the node')
  })

  test('links inside work as they do inside', async () => {
    await mkdir(at('usr/lib'), { recursive: true })
    await writeFile(at('usr/lib/os-release'), 'ID=debian\n')
    await symlink('../usr/lib/os-release', at('etc/os-release'))
    await symlink('/usr/lib', at('lib'))
    expect(await tree.read('/etc/os-release')).toBe('ID=debian\n')
    expect(await tree.read('/lib/os-release')).toBe('ID=debian\n')
  })

  test('links in a circle are an error, FIFOs and folders no files', async () => {
    await symlink('b', at('etc/a'))
    await symlink('a', at('etc/b'))
    await expect(tree.read('/etc/a')).rejects.toThrow('too many levels of symbolic links')
    execFileSync('mkfifo', [at('etc/fifo')])
    expect(await tree.read('/etc/fifo')).toBeUndefined()
    expect(await tree.read('/etc')).toBeUndefined()
    await tree.write('/etc/fifo', 'x')
    expect(text('etc/fifo')).toBe('x')
  })

  test('files keep their permissions, new folders get the asked ones', async () => {
    await writeFile(at('etc/shadow'), 'old', { mode: 0o640 })
    await tree.write('/etc/shadow', 'new')
    expect((await stat(at('etc/shadow'))).mode & 0o777).toBe(0o640)
    await tree.makeFolder('/root/.ssh', 0o700)
    expect((await stat(at('root/.ssh'))).mode & 0o777).toBe(0o700)
    expect((await stat(at('root'))).mode & 0o777).toBe(0o755)
  })
})

describe('what Proxmox writes into a container', () => {
  test('names and DNS, again and again', async () => {
    await writeFile(at('etc/hosts'), '127.0.0.1 localhost\n10.0.0.9 friend')
    await symlink('../run/systemd/resolve/stub-resolv.conf', at('etc/resolv.conf'))
    const first = spec(
      { hostname: 'web.example.org', nameserver: '9.9.9.9 1.1.1.1', searchdomain: 'lan' },
      {},
    )
    await setUp(tree, first, '10.0.0.1')
    expect(text('etc/hostname')).toBe('web\n')
    expect(text('etc/resolv.conf')).toContain('search lan\nnameserver 9.9.9.9\nnameserver 1.1.1.1\n')
    await setUp(tree, spec({ hostname: 'db' }, { ip: '10.0.0.5/24' }), '10.0.0.1')
    expect(text('etc/hosts')).toBe(
      '127.0.0.1 localhost\n10.0.0.9 friend\n# --- BEGIN PVE ---\n10.0.0.5 db\n# --- END PVE ---\n',
    )
    expect(text('etc/resolv.conf')).toContain('nameserver 10.0.0.1\n')
    expect(text('etc/resolv.conf')).not.toContain('search')
  })

  test('interfaces for ifupdown, which leave those of others alone', async () => {
    await tree.write(
      '/etc/network/interfaces',
      'source /etc/network/interfaces.d/*\nauto lo\niface lo inet loopback\n# c\nauto eth0\niface eth0 inet manual\n\tmtu 9\nauto wg0\niface wg0 inet static\n\taddress 10.1.1.1/32\n',
    )
    const nics = [
      { ip: '10.0.0.5/24', gw: '10.0.0.1', ip6: 'auto' },
      { ip: 'dhcp', options: { mtu: '1400' } },
      {},
    ]
    await setUp(tree, spec({}, ...nics), '10.0.0.1')
    expect(
      text('etc/network/interfaces')
        .split('\n\n')
        .map((stanza) => stanza.trim().split(/\n\t?/)),
    ).toEqual([
      ['auto lo', 'iface lo inet loopback'],
      ['auto eth0'],
      ['iface eth0 inet static', 'address 10.0.0.5/24', 'gateway 10.0.0.1'],
      ['iface eth0 inet6 auto'],
      ['auto eth1'],
      ['iface eth1 inet dhcp', 'mtu 1400'],
      ['auto eth2'],
      ['iface eth2 inet manual'],
      ['source /etc/network/interfaces.d/*'],
      ['auto wg0'],
      ['iface wg0 inet static', 'address 10.1.1.1/32'],
    ])
    expect(readdirSync(at('etc'))).not.toContain('systemd')
  })

  test('interfaces for networkd', async () => {
    const nics = [
      { ip: '10.0.0.5/24', gw: '10.0.0.1' },
      { ip: 'dhcp', ip6: 'auto', options: { mtu: '1400' } },
    ]
    await setUp(tree, spec({ ostype: 'ubuntu' }, ...nics), '10.0.0.1')
    expect(text('etc/systemd/network/eth0.network').split('\n')).toEqual([
      ...['[Match]', 'Name = eth0', ''],
      ...[
        '[Network]',
        'DHCP = no',
        'IPv6AcceptRA = false',
        'Address = 10.0.0.5/24',
        'Gateway = 10.0.0.1',
        '',
      ],
    ])
    expect(text('etc/systemd/network/eth1.network')).toContain('MTUBytes = 1400\n\n[Network]\nDHCP = ipv4\n')
    expect(readdirSync(at('etc'))).not.toContain('network')
  })

  test('an empty machine-id in a clone, so that it gets one of its own without a first boot', async () => {
    await writeFile(at('etc/machine-id'), 'abc\n')
    await setUpClone(tree, spec())
    expect(text('etc/machine-id')).toBe('')
  })

  test('nothing, where nobody manages it', async () => {
    await writeFile(at('etc/machine-id'), 'abc\n')
    for (const ostype of ['unmanaged', undefined]) {
      const { ostype: _, ...rest } = spec()
      const unmanaged = ostype === undefined ? rest : { ...rest, ostype }
      await setUp(tree, unmanaged, '10.0.0.1')
      await setUpClone(tree, unmanaged)
    }
    expect(readdirSync(at('etc'))).toEqual(['machine-id'])
    expect(text('etc/machine-id')).toBe('abc\n')
  })
})

describe('what a container runs as its init', () => {
  const init = async (content: string) => {
    await mkdir(at('lib/systemd'), { recursive: true })
    await mkdir(at('sbin'), { recursive: true })
    await writeFile(at('lib/systemd/systemd'), content)
    await symlink('/lib/systemd/systemd', at('sbin/init'))
  }

  test('is told with the version of its systemd', async () => {
    await init('\x7fELF\0libc.so.6\0libsystemd-shared-257.9-1.so\0')
    expect(await setUp(tree, spec(), '10.0.0.1')).toEqual({ ostype: 'debian', systemd: 257 })
    expect(await setUpClone(tree, spec())).toEqual({ ostype: 'debian', systemd: 257 })
  })

  test('is not told of another init, nor where nothing is to be looked at', async () => {
    expect(await setUp(tree, spec(), '10.0.0.1')).toEqual({ ostype: 'debian' })
    await init('libsystemd-shared-257.so')
    expect(await setUp(tree, spec({ ostype: 'unmanaged' }), '10.0.0.1')).toEqual({ ostype: 'unmanaged' })
    await rm(at('sbin/init'))
    await writeFile(at('sbin/init'), 'libsystemd-shared-257.so')
    expect(await setUp(tree, spec(), '10.0.0.1')).toEqual({ ostype: 'debian' })
  })
})
