import { TOOLS_HOST } from '../audit/tools.ts'
import { installMissing, LAB_HOST, missingPackages, type Requirement } from '../src/cli/prerequisites.ts'
import { githubDescription } from './ci/github-description.ts'
import { fetchCloudInit, RELEASES } from './seed/cloud-init.ts'
import { fetchNetplan, NETPLAN_RELEASES } from './seed/netplan.ts'

/**
 * `node prerequisites.ts [integration|e2e]`: what tests need from Debian, installed when root (or sudo without a
 * password) runs this; otherwise the line to type is printed. Without a word: for `npm test` alone.
 */
interface ForTests extends Requirement {
  /** said before it is installed: it does more than lie there */
  beware?: string
}

const UNIT: readonly ForTests[] = [
  { command: 'ssh-keygen', package: 'openssh-client' },
  { command: 'openssl', package: 'openssl' },
  { command: 'ps', package: 'procps' },
  { command: 'systemctl', package: 'systemd' },
  { command: 'flock', package: 'util-linux' },
  { command: 'script', package: 'bsdutils' },
  { command: 'mount', package: 'mount' },
  { command: 'gpg', package: 'gpg' },
  { command: 'gpg-agent', package: 'gpg-agent' },
  { command: 'gpgv', package: 'gpgv' },
  { command: 'xz', package: 'xz-utils' },
  { command: 'zstd', package: 'zstd' },
  { command: 'bsdtar', package: 'libarchive-tools' },
  { command: 'xorriso', package: 'xorriso' },
  { command: 'setcap', package: 'libcap2-bin' },
  { command: 'setfacl', package: 'acl' },
  { command: 'setfattr', package: 'attr' },
  { command: 'python3', package: 'python3-minimal' },
  { command: '/usr/lib/python3/dist-packages/yaml/__init__.py', package: 'python3-yaml' },
  {
    command: '/usr/lib/python3/dist-packages/prometheus_client/parser.py',
    package: 'python3-prometheus-client',
  },
]

const INTEGRATION: readonly ForTests[] = [
  ...UNIT,
  ...LAB_HOST,
  ...TOOLS_HOST,
  {
    ...{ command: 'sshd', package: 'openssh-server' },
    beware:
      'openssh-server is missing. The tests log in to its sshd, each to one of its own on loopback. Debian starts an ' +
      'SSH server on port 22 of this machine with it; to stop that one: systemctl disable --now ssh.service ssh.socket',
  },
  { command: 'sudo', package: 'sudo' },
  { command: 'ping', package: 'iputils-ping' },
  { command: 'sfdisk', package: 'fdisk' },
  { command: 'apprise', package: 'apprise' },
  // What cloud-init, which is not installed itself, imports.
  ...['configobj', 'jinja2', 'jsonpatch', 'netifaces', 'requests'].map((name) => ({
    command: `/usr/share/doc/python3-${name}/copyright`,
    package: `python3-${name}`,
  })),
]

/** A consumer of templates, and its modules for Proxmox, which are large; clocks that are wrong. */
const END_TO_END: readonly ForTests[] = [
  ...INTEGRATION,
  { command: 'faketime', package: 'faketime' },
  { command: 'ansible-playbook', package: 'ansible' },
  { command: '/usr/share/doc/python3-proxmoxer/copyright', package: 'python3-proxmoxer' },
]

const LISTS = { unit: UNIT, integration: INTEGRATION, e2e: END_TO_END }

const [, , which = 'unit'] = process.argv
if (!isList(which)) throw new Error(`there is no list ${which}: ${Object.keys(LISTS).join(', ')}`)
try {
  const missing = await missingPackages(LISTS[which])
  for (const { package: name, beware } of LISTS[which]) {
    if (beware !== undefined && missing.includes(name)) process.stderr.write(`${beware}\n`)
  }
  await installMissing(LISTS[which], (event) => {
    if ('message' in event) process.stderr.write(`${event.message}\n`)
  })
} catch (error) {
  const { message, next } = error as { message: string; next?: string }
  process.stderr.write(`${message}\n${next ?? ''}\n`)
  process.exitCode = 69
}

if (which !== 'unit') {
  // Old releases leave the mirrors at some time, and what is tested with them is not worth failing for.
  for (const release of RELEASES)
    await fetch(`cloud-init of Debian ${release}, with which seeds are tested`, () => fetchCloudInit(release))
  for (const release of NETPLAN_RELEASES)
    await fetch(`netplan of Debian ${release}, with which seeds are tested`, () => fetchNetplan(release))
  await fetch('the description of GitHub’s API, by which requests are judged', githubDescription)
}

function isList(word: string): word is keyof typeof LISTS {
  return Object.hasOwn(LISTS, word)
}

async function fetch(what: string, how: () => unknown): Promise<void> {
  try {
    await how()
  } catch (error) {
    process.stderr.write(`${what}: ${(error as Error).message}\n`)
  }
}
