import { createHash } from 'node:crypto'
import { existsSync } from 'node:fs'
import { chmod, copyFile, mkdir, mkdtemp, readFile, realpath, rename, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { execa } from 'execa'

/**
 * The smallest system that a container can be built from: this machine's shell, sshd and the tools that inventory and
 * sealing call, under an init of a few lines. It boots, is written down, sealed and powered off in seconds, so that
 * builds can be had by the hundred; what such builds make of a real Debian is for the end-to-end tests.
 */

const PROGRAMS = [
  ...[
    'sh',
    'cat',
    'base64',
    'mktemp',
    'mkdir',
    'rm',
    'rmdir',
    'mv',
    'cp',
    'ls',
    'ln',
    'chmod',
    'chown',
    'touch',
    'id',
  ],
  ...[
    'head',
    'tail',
    'cut',
    'sort',
    'tr',
    'tee',
    'sync',
    'truncate',
    'uname',
    'env',
    'sleep',
    'stat',
    'find',
  ],
  ...[
    'grep',
    'sed',
    'awk',
    'perl',
    'getent',
    'setsid',
    'ip',
    'sshd',
    'ssh-keygen',
    'kill',
    'sha256sum',
    'tar',
  ],
]

const SSHD = '/usr/sbin/sshd'

/** Brings the network up as Proxmox has written it down, and ends when LXC or `poweroff` asks for it. */
const INIT = `#!/bin/sh
trap 'exit 0' PWR RTMIN+3
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
mkdir -p /run/sshd
ip link set lo up
address=$(awk '$1 == "address" { print $2 }' /etc/network/interfaces)
gateway=$(awk '$1 == "gateway" { print $2 }' /etc/network/interfaces)
ip link set eth0 up
[ -z "$address" ] || ip addr add "$address" dev eth0
[ -z "$gateway" ] || ip route add default via "$gateway"
# Of one kind: an RSA key takes as long as all else here.
key=/etc/ssh/ssh_host_ed25519_key
[ -e $key ] || ssh-keygen -q -t ed25519 -N '' -f $key
${SSHD}
echo tiny is up
while :; do sleep 0.2 & wait $!; done
`

const SYSTEMCTL = `#!/bin/sh
case "$1" in
  poweroff) kill -PWR 1 ;;
  is-active) echo inactive; exit 3 ;;
esac
`

const FILES: Record<string, string> = {
  'etc/os-release': 'ID=debian\nVERSION_ID="12"\nVERSION_CODENAME=bookworm\nPRETTY_NAME="tiny"\n',
  'etc/debian_version': '12.0\n',
  'etc/passwd': 'root:x:0:0:root:/root:/bin/sh\nsshd:x:101:65534::/run/sshd:/usr/sbin/nologin\n',
  'etc/shadow': 'root:*:19000:0:99999:7:::\nsshd:!:19000::::::\n',
  'etc/group': 'root:x:0:\nnogroup:x:65534:\n',
  'etc/nsswitch.conf': 'passwd: files\ngroup: files\nshadow: files\nhosts: files dns\n',
  'etc/hosts': '127.0.0.1 localhost\n',
  'etc/hostname': 'tiny\n',
  'etc/machine-id': '',
  'etc/ssh/sshd_config': 'Subsystem sftp internal-sftp\n',
  'etc/network/interfaces': '',
}

const SCRIPTS: Record<string, string> = {
  'sbin/init': INIT,
  'sbin/ifup': '#!/bin/sh\n',
  'usr/bin/systemctl': SYSTEMCTL,
  'usr/bin/apt-get': '#!/bin/sh\n',
}

const FOLDERS = [
  ...[
    'bin',
    'sbin',
    'dev',
    'proc',
    'sys',
    'run',
    'root',
    'home',
    'usr/bin',
    'usr/sbin',
    'etc/systemd/system',
  ],
  ...['tmp', 'var/tmp', 'var/log', 'var/mail', 'var/lib'],
]

/**
 * Makes it in the folder; gives the lines of a definition's `source`.
 * @param instead what its init does where it would start sshd
 * @param scripts more of them, or others, by their paths
 */
export async function tinySource(
  folder: string,
  instead?: string,
  scripts: Readonly<Record<string, string>> = {},
): Promise<string> {
  const path = join(folder, 'tiny.tar.zst')
  const root = await mkdtemp(join(tmpdir(), 'imagebuild-tiny-'))
  try {
    await chmod(root, 0o755)
    for (const one of FOLDERS) await mkdir(join(root, one), { recursive: true })
    for (const [file, text] of Object.entries(FILES)) await put(join(root, file), text, 0o644)
    for (const [file, text] of Object.entries({ ...SCRIPTS, ...scripts }))
      await put(join(root, file), text, 0o755)
    if (instead !== undefined) await put(join(root, 'sbin/init'), INIT.replace(SSHD, instead), 0o755)
    for (const name of PROGRAMS) await copyProgram(name, root)
    for (const name of ['tmp', 'var/tmp']) await chmod(join(root, name), 0o1777)
    const partial = `${path}.partial`
    await execa('tar', [
      ...['--create', '--zstd', '--sort=name', '--owner=0', '--group=0', '--numeric-owner'],
      ...['--file', partial, '-C', root, '.'],
    ])
    await rename(partial, path)
  } finally {
    await rm(root, { recursive: true, force: true })
  }
  const sha256 = createHash('sha256')
    .update(await readFile(path))
    .digest('hex')
  return `source: { url: "file://${path}", checksum: "sha256:${sha256}" }`
}

async function put(path: string, text: string, mode: number): Promise<void> {
  await mkdir(dirname(path), { recursive: true })
  await writeFile(path, text)
  await chmod(path, mode)
}

/** A program with the libraries that it needs, at the place where scripts expect it. */
async function copyProgram(name: string, root: string): Promise<void> {
  const places = ['/usr/bin', '/usr/sbin', '/bin', '/sbin'].map((folder) => join(folder, name))
  const path = await realpath(places.find((place) => existsSync(place)) ?? name)
  const to = name === 'sshd' || name === 'ip' ? `usr/sbin/${name}` : `usr/bin/${name}`
  await copyFile(path, join(root, to))
  if (name === 'sh') await copyFile(path, join(root, 'bin/sh'))
  // Statically linked ones have none.
  const { stdout } = await execa('ldd', [path], { reject: false })
  for (const [library] of stdout.matchAll(/\/\S+/g)) {
    await mkdir(join(root, dirname(library)), { recursive: true })
    await copyFile(library, join(root, library))
  }
}
