import { chmod, cp, mkdir, mkdtemp, readdir, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { execa } from 'execa'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'

/**
 * seal.sh in a tree that looks like a guest: a chroot with this machine's /usr, read-only, in a mount namespace of
 * its own. Where those cannot be made, nothing runs. What needs a running system is played by scripts that
 * write down how they were called.
 */

const SCRIPT = new URL('../../src/build/seal.sh', import.meta.url)
const KEY = 'AAAAC3NzaBUILD'
const PLAYED = [
  'make-ssl-cert',
  'systemctl',
  'journalctl',
  'userdel',
  'groupdel',
  'apt-get',
  'fstrim',
  'setsid',
  'sync',
]

/** What is in the tree before; a path that ends in / is an empty folder. */
const BEFORE: Record<string, string> = {
  '/etc/passwd': 'root:x:0:0::/root:/bin/sh\n',
  '/etc/group': 'root:x:0:\n',
  '/etc/passwd-': 'imagebuild:x:1000:1000::/home/imagebuild:/bin/sh\n',
  '/etc/machine-id': '17d6846e4b844448b92a126995e9119c\n',
  '/etc/hostname': 'web\n',
  '/etc/hosts': '127.0.0.1\tlocalhost\n127.0.1.1 web web\n192.0.2.1 router\n',
  '/etc/ssh/ssh_host_ed25519_key': 'PRIVATE',
  '/etc/ssh/sshd_config.d/50-cloud-init.conf': 'PasswordAuthentication no\n',
  '/etc/ssh/sshd_config.d/10-mine.conf': 'X11Forwarding no\n',
  '/etc/ssl/private/ssl-cert-snakeoil.key': 'PRIVATE',
  '/etc/ssl/private/mine.key': 'PRIVATE',
  '/etc/ssl/certs/ssl-cert-snakeoil.pem': 'PUBLIC',
  '/etc/ssl/certs/mine.pem': 'PUBLIC',
  '/etc/systemd/system/': '',
  '/etc/sudoers.d/90-cloud-init-users':
    '# Created by cloud-init\n\n# User rules for imagebuild\nimagebuild ALL=(ALL) NOPASSWD:ALL\n\n# User rules for admin\nadmin ALL=(ALL) ALL\n',
  '/etc/sudoers.d/imagebuilder': 'imagebuilder ALL=(ALL) ALL\n',
  '/etc/netplan/50-cloud-init.yaml': 'network: {}\n',
  '/etc/netplan/90-default.yaml': 'network: {}\n',
  '/etc/NetworkManager/system-connections/cloud-init-eth0.nmconnection': '[connection]\n',
  '/etc/systemd/': '',
  '/etc/dhcpcd.conf': '# duid is for others\nduid\npersistent\n',
  '/etc/iscsi/initiatorname.iscsi': 'InitiatorName=iqn.1993-08.org.debian:01:aabbccddee\n',
  '/root/.ssh/authorized_keys': `no-pty ssh-ed25519 ${KEY} imagebuild-1\n`,
  '/root/.bash_history': 'secret\n',
  '/root/.cache/pip/x': 'x',
  '/home/admin/.ssh/authorized_keys': `ssh-ed25519 AAAAADMIN admin\nssh-ed25519 ${KEY} imagebuild-1\n`,
  '/home/admin/.ssh/known_hosts': 'git.example ssh-ed25519 AAAA\n',
  '/home/admin/.ansible/collections/mine': 'x',
  '/home/admin/.ansible/tmp/x': 'x',
  '/var/lib/cloud/instance/user-data.txt': 'x',
  '/var/lib/systemd/random-seed': 'x',
  '/var/lib/systemd/timers/stamp-apt-daily.timer': '',
  '/var/lib/systemd/linger/': '',
  '/var/lib/apt/lists/deb.example_Packages': 'x',
  '/var/lib/NetworkManager/secret_key': 'x',
  '/var/lib/dhcp/dhclient.leases': 'lease',
  '/var/cache/apt/pkgcache.bin': 'x',
  '/var/mail/root': 'From cron',
  '/var/lib/lastlog/lastlog2.db': 'imagebuild',
  '/var/lib/wtmpdb/wtmp.db': 'imagebuild',
  '/var/lib/wtmpdb/wtmp.db-journal': 'imagebuild',
  '/var/log/dpkg.log': 'installed',
  '/var/log/dpkg.log.1': 'installed',
  '/var/log/cloud-init.log': 'x',
  '/var/log/journal/17d6846e4b844448b92a126995e9119c/system.journal': 'x',
  '/tmp/imagebuild-script': 'x',
  '/tmp/systemd-private-0-logind.service-X/tmp/': '',
  '/var/tmp/x': 'x',
  '/var/crash/': '',
  '/run/cloud-init/result.json': '{}',
}

let tree: string
let outcome: { exitCode?: number | undefined; stderr: string }
const canMount =
  process.getuid?.() === 0 && (await execa('unshare', ['--mount', 'true'], { reject: false })).exitCode === 0

beforeAll(async () => {
  if (!canMount) return
  tree = await mkdtemp(join(tmpdir(), 'imagebuild-seal-'))
  await mkdir(join(tree, 'usr'))
  await mkdir(join(tree, 'dev'))
  for (const link of ['bin', 'sbin', 'lib', 'lib64']) await symlink(`usr/${link}`, join(tree, link))
  for (const [path, content] of Object.entries(BEFORE)) {
    const at = join(tree, path)
    await mkdir(path.endsWith('/') ? at : dirname(at), { recursive: true })
    if (!path.endsWith('/')) await writeFile(at, content)
  }
  for (const name of ['ssl-cert-snakeoil', 'mine'])
    await symlink(`${name}.pem`, join(tree, `etc/ssl/certs/${name}.0`))
  await mkdir(join(tree, 'played'))
  for (const name of PLAYED) {
    await writeFile(join(tree, 'played', name), `#!/bin/sh\necho "${name} $*" >> /played/calls\n`)
    await chmod(join(tree, 'played', name), 0o755)
  }
  await cp(SCRIPT, join(tree, 'played/seal.sh'))
  outcome = await execa(
    'unshare',
    [
      '--mount',
      'sh',
      '-c',
      'mount --bind /usr "$1/usr" && mount -o remount,bind,ro "$1/usr" && : > "$1/dev/null" && exec chroot "$1" /bin/sh /played/seal.sh',
      'sh',
      tree,
    ],
    {
      reject: false,
      extendEnv: false,
      env: {
        PATH: '/played:/usr/sbin:/usr/bin:/sbin:/bin',
        BUILD_USER: 'imagebuild',
        BUILD_KEY: KEY,
        AND_THEN: 'poweroff',
      },
    },
  )
})
afterAll(async () => {
  if (tree !== undefined) await rm(tree, { recursive: true })
})

const read = (path: string) => readFile(join(tree, path), 'utf8')
const there = (path: string) =>
  stat(join(tree, path)).then(
    () => true,
    () => false,
  )

describe.runIf(canMount)(
  `a sealed tree${canMount ? '' : ' (skipped: needs root and mount namespaces)'}`,
  () => {
    test('is sealed without a complaint', () => {
      expect(outcome).toMatchObject({ exitCode: 0, stderr: '' })
    })

    test.each([
      '/etc/passwd-',
      '/etc/ssh/ssh_host_ed25519_key',
      '/etc/ssh/sshd_config.d/50-cloud-init.conf',
      '/etc/ssl/private/ssl-cert-snakeoil.key',
      '/etc/ssl/certs/ssl-cert-snakeoil.pem',
      '/etc/netplan/50-cloud-init.yaml',
      '/etc/NetworkManager/system-connections/cloud-init-eth0.nmconnection',
      '/root/.ssh',
      '/root/.bash_history',
      '/root/.cache',
      '/home/admin/.ansible/tmp',
      '/var/lib/cloud/instance',
      '/var/lib/systemd/random-seed',
      '/var/lib/systemd/timers/stamp-apt-daily.timer',
      '/var/lib/apt/lists/deb.example_Packages',
      '/var/lib/NetworkManager/secret_key',
      '/var/lib/dhcp/dhclient.leases',
      '/var/cache/apt/pkgcache.bin',
      '/var/mail/root',
      '/var/lib/lastlog/lastlog2.db',
      '/var/lib/wtmpdb/wtmp.db',
      '/var/lib/wtmpdb/wtmp.db-journal',
      '/var/log/dpkg.log.1',
      '/var/log/cloud-init.log',
      '/var/log/journal/17d6846e4b844448b92a126995e9119c',
      '/run/cloud-init',
    ])('lacks %s', async (path) => {
      expect(await there(path)).toBe(false)
    })

    test('has no temporary files', async () => {
      expect([...(await readdir(join(tree, 'tmp'))), ...(await readdir(join(tree, 'var/tmp')))]).toEqual([])
    })

    test('knows neither who it is nor who built it', async () => {
      expect(await read('/etc/machine-id')).toBe('')
      expect(await read('/etc/hostname')).toBe('localhost\n')
      expect(await read('/etc/hosts')).toBe('127.0.0.1\tlocalhost\n192.0.2.1 router\n')
      expect(await read('/etc/iscsi/initiatorname.iscsi')).toBe('GenerateName=yes\n')
      expect(await read('/home/admin/.ssh/authorized_keys')).toBe('ssh-ed25519 AAAAADMIN admin\n')
      expect(await read('/etc/sudoers.d/90-cloud-init-users')).not.toMatch(/imagebuild/)
    })

    test('keeps what is the definition’s', async () => {
      expect(await read('/etc/sudoers.d/90-cloud-init-users')).toContain('admin ALL=(ALL) ALL')
      expect(await read('/etc/sudoers.d/imagebuilder')).toContain('imagebuilder')
      expect(await there('/etc/netplan/90-default.yaml')).toBe(true)
      expect(await there('/etc/ssh/sshd_config.d/10-mine.conf')).toBe(true)
      expect(await there('/home/admin/.ssh/known_hosts')).toBe(true)
      expect(await there('/home/admin/.ansible/collections/mine')).toBe(true)
      expect(await read('/var/log/dpkg.log')).toBe('')
    })

    test('has ssl-cert make a key anew where it boots', async () => {
      expect((await readdir(join(tree, 'etc/ssl/certs'))).sort()).toEqual(['mine.0', 'mine.pem'])
      expect(await read('/etc/ssl/private/mine.key')).toBe('PRIVATE')
      const unit = '/etc/systemd/system/imagebuild-ssl-cert.service'
      expect(await read(unit)).toContain('ExecStart=make-ssl-cert generate-default-snakeoil\n')
      // make-ssl-cert's own files are in /tmp, which tmpfiles.d(5) empties at boot.
      expect(await read(unit)).toMatch(/^After=.*\bsystemd-tmpfiles-setup\.service\b/m)
      expect(await read('/played/calls')).toContain('systemctl --quiet enable imagebuild-ssl-cert.service\n')
    })

    test('asks for leases by its MAC', async () => {
      expect(await read('/etc/systemd/networkd.conf.d/50-dhcp-identity.conf')).toMatch(
        /^\[DHCPv4\]\nDUIDType=link-layer$/m,
      )
      expect(await read('/etc/dhcpcd.conf')).toBe('# duid is for others\nclientid\npersistent\n')
      expect(await read('/etc/NetworkManager/conf.d/50-dhcp-identity.conf')).toMatch(
        /^\[connection\]\nipv4\.dhcp-client-id=mac$/m,
      )
    })

    test('was quiet before it was cleaned, and written down before it was trimmed', async () => {
      const calls = (await read('/played/calls')).trim().split('\n')
      const at = (call: string) => calls.findIndex((line) => line.startsWith(call))
      // A journal that is deleted while journald writes to it comes back.
      expect(at('journalctl --relinquish-var')).toBeGreaterThanOrEqual(0)
      expect(at('journalctl --relinquish-var')).toBeLessThan(at('apt-get clean'))
      // An upgrade in the background holds apt's lock, and must not be cut off.
      expect(at('systemctl stop apt-daily.service')).toBeGreaterThanOrEqual(0)
      expect(at('systemctl stop apt-daily.service')).toBeLessThan(at('apt-get clean'))
      expect(calls.slice(at('fstrim') - 1, at('fstrim') + 2)).toEqual(['sync ', 'fstrim -a', 'sync '])
      expect(calls.at(-1)).toMatch(/^(setsid|sync)/)
    })
  },
)
