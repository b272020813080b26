import { existsSync } from 'node:fs'
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { execa } from 'execa'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type Found, parseInventory } from '../../src/build/inventory/parse.ts'
import { debianArchive } from './debian-archive.ts'

/**
 * The script in a Debian tree that takes itself for a virtual machine: with a kernel of its own, and with what a build by
 * cloud-init leaves until it is sealed.
 */
let tree: string
let found: Found

const FILES: Record<string, string> = {
  'boot/vmlinuz-6.1.0-37-amd64': '',
  'etc/ssh/sshd_config.d/50-cloud-init.conf': 'PasswordAuthentication no\nMaxSessions 7\n',
  'etc/ssh/sshd_config.d/60-own.conf': 'MaxAuthTries 3\n',
  'etc/sysctl.d/10-early.conf': '# words = none\nvm.swappiness = 1\n-kernel.kptr_restrict=1\n',
  'etc/sysctl.d/90-late.conf':
    'vm/swappiness = 7\nnet/ipv4/conf/eth0.7/rp_filter = 1\n net.ipv4.ping_group_range =  0\t 5 \n',
  'usr/bin/systemd-detect-virt': '#!/bin/sh\necho kvm\nexit 1\n',
}

beforeAll(async () => {
  tree = await mkdtemp(join(tmpdir(), 'imagebuild-tree-'))
  await execa('tar', ['--extract', '--file', await debianArchive(), '--directory', tree, '--exclude=./dev/*'])
  for (const [path, content] of Object.entries(FILES)) {
    await mkdir(dirname(join(tree, path)), { recursive: true })
    await writeFile(join(tree, path), content)
  }
  await inTree(
    'rm -f /etc/ssh/ssh_host_*; useradd --create-home --shell /bin/sh imagebuild; ' +
      'for to in /home/imagebuild/mine /tmp/mine /srv/a; do cp /bin/true $to; chmod 6755 $to; done; ln /srv/a /srv/b; ' +
      'chmod 0755 /usr/bin/systemd-detect-virt; dd if=/dev/zero of=/var/cache/large bs=1M count=3 2>&1',
  )
  const script = await readFile(new URL('../../src/build/inventory/inventory.sh', import.meta.url), 'utf8')
  found = parseInventory(await inTree(`BUILD_USER=imagebuild; ${script}`), 'imagebuild')
})

afterAll(() => rm(tree, { recursive: true, force: true }))

/** In namespaces of its own, so that no mount outlives it. */
async function inTree(script: string): Promise<string> {
  const enter =
    'mount --bind "$1" "$1" && mount -t proc proc "$1/proc" && mount -t tmpfs tmpfs "$1/run" && ' +
    'mount --bind /dev "$1/dev" && exec chroot "$1" /bin/sh -s'
  const args = ['--mount', '--pid', '--fork', 'sh', '-c', enter, 'sh', tree]
  return (await execa('unshare', args, { input: script })).stdout
}

test('it looks as the clone will: without what cloud-init wrote for the build, and without its user', () => {
  expect(found.sshd).toMatchObject({
    ...{ passwordauthentication: ['yes'], maxsessions: ['10'], maxauthtries: ['3'] },
  })
  expect(found.sshd).not.toHaveProperty('hostkey')
  expect(found.users.map(({ name }) => name)).toEqual(['root'])
  const paths = found.privileged.map(({ path }) => path)
  expect(paths).toEqual(expect.arrayContaining(['/srv/a', '/srv/b', '/usr/bin/su']))
  expect(paths.filter((path) => path.endsWith('/mine'))).toEqual([])
})

test('sysctl: what the last file says, and what the kernel does', async () => {
  const kernel = async (path: string) => (await readFile(`/proc/sys/${path}`, 'utf8')).trim()
  expect(found.sysctl).toMatchObject({
    'vm.swappiness': { configured: '7', effective: await kernel('vm/swappiness') },
    'kernel.kptr_restrict': { configured: '1', effective: await kernel('kernel/kptr_restrict') },
    'net.ipv4.conf.eth0/7.rp_filter': { configured: '1' },
    'net.ipv4.ping_group_range': { configured: '0 5' },
    'kernel.randomize_va_space': { effective: await kernel('kernel/randomize_va_space') },
  })
  expect(Object.keys(found.sysctl).filter((key) => key.includes('words'))).toEqual([])
})

test('kernels, packages, and a size of which caches and second names are no part', async () => {
  expect(found.kernels).toEqual(['6.1.0-37-amd64'])
  expect(found.packages?.find(({ name }) => name === 'libc6')).toMatchObject({
    source: 'glibc',
    status: 'installed',
  })
  const { stdout } = await execa('du', ['--apparent-size', '--bytes', '--summarize', tree])
  const whole = Number(stdout.split('\t')[0])
  expect(found.size).toBeGreaterThan(100 * 2 ** 20)
  expect(found.size).toBeLessThan(whole - 3 * 2 ** 20)
})

test('it leaves nothing behind', () => {
  for (const path of ['run/sshd', 'etc/ssh/ssh_host_ed25519_key'])
    expect(existsSync(join(tree, path))).toBe(false)
})
