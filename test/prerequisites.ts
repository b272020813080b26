import { TOOLS_HOST } from '../audit/tools.ts'
import { installMissing, LAB_HOST } from '../src/cli/prerequisites.ts'
import { fetchCloudInit, RELEASES } from './seed/cloud-init.ts'
import { fetchNetplan, NETPLAN_RELEASES } from './seed/netplan.ts'

/**
 * What the tests need from Debian beyond what imagebuild itself needs: servers and readers of the real kind to
 * test against. Installed when root (or sudo without a password) runs them; otherwise the line to type is printed.
 */
const TESTS = [
  { command: 'sshd', package: 'openssh-server' },
  { command: 'ssh', package: 'openssh-client' },
  { command: 'sudo', package: 'sudo' },
  { command: 'ps', package: 'procps' },
  { command: 'ping', package: 'iputils-ping' },
  { command: 'systemctl', package: 'systemd' },
  { command: 'gpg', package: 'gpg' },
  { command: 'gpg-agent', package: 'gpg-agent' },
  { command: 'mount', package: 'mount' },
  { command: 'bsdtar', package: 'libarchive-tools' },
  { command: 'sfdisk', package: 'fdisk' },
  { command: 'setcap', package: 'libcap2-bin' },
  { command: 'setfacl', package: 'acl' },
  { command: 'setfattr', package: 'attr' },
  { command: '/usr/lib/python3/dist-packages/yaml/__init__.py', package: 'python3-yaml' },
  { command: 'python3', package: 'python3-minimal' },
  // What cloud-init, which is not installed itself, imports.
  ...['configobj', 'jinja2', 'jsonpatch', 'netifaces', 'requests'].map((name) => ({
    command: `/usr/share/doc/python3-${name}/copyright`,
    package: `python3-${name}`,
  })),
]

/** `node prerequisites.ts e2e`: a consumer of templates, and its modules for Proxmox, which are large; clocks that are wrong. */
const END_TO_END = [
  { command: 'faketime', package: 'faketime' },
  { command: 'ansible-playbook', package: 'ansible' },
  { command: '/usr/share/doc/python3-proxmoxer/copyright', package: 'python3-proxmoxer' },
]

try {
  const more = process.argv.includes('e2e') ? END_TO_END : []
  await installMissing([...LAB_HOST, ...TOOLS_HOST, ...TESTS, ...more], (event) => {
    if ('message' in event) process.stderr.write(`${event.message}\n`)
  })
} catch (error) {
  const { message, next } = error as { message: string; next?: string }
  process.stderr.write(`${message}\n${next ?? ''}\n`)
  process.exitCode = 69
}

// Old releases leave the mirrors at some time, and what is tested with them is not worth failing for.
for (const release of RELEASES) fetch(`cloud-init of Debian ${release}`, () => fetchCloudInit(release))
for (const release of NETPLAN_RELEASES) fetch(`netplan of Debian ${release}`, () => fetchNetplan(release))

function fetch(what: string, how: () => void): void {
  try {
    how()
  } catch (error) {
    process.stderr.write(`${what}, with which seeds are tested: ${(error as Error).message}\n`)
  }
}
