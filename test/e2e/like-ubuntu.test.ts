import { afterAll, beforeAll, expect, test } from 'vitest'
import type { Report } from '../../src/build/verify/report.ts'
import type { Pve } from '../../src/pve/client.ts'
import { destroyGuest } from '../../src/pve/destroy.ts'
import { inventory, labClient, makeProject, type Project } from './harness.ts'

/**
 * A Debian 13 with what Ubuntu 26.04 has otherwise, as far as Debian packages it: sudo-rs for sudo and rust-coreutils for
 * the GNU ones (older versions of both), ssh.socket instead of ssh.service, package sources in deb822, programs that
 * Ubuntu's standard system has, no documentation (as in `-minimal`), and what snapd leaves around. All scripts of a build
 * and all checks run under that.
 */
const IMAGE = 'like-ubuntu'

const DEFINITION = `name: ${IMAGE}
kind: lxc
source: { bootstrap: { distribution: debian, suite: trixie, packages: [inetutils-telnet, rsync, rsyslog, ufw] } }
hardware: { rootfs: 2G }
hardening:
  profile: cis-l1
  except:
    accounts-umask: sudo-rs knows umask since 0.2.7, and Debian 13 has 0.2.5
provision:
  - name: package sources and dpkg’s settings
    shell: { script: sources.sh }
  - packages: [sudo, sudo-rs, rust-coreutils]
  - name: other programs under the usual names
    shell: { script: programs.sh }
  - name: SSH by its socket
    shell: { script: ssh.sh }
  # From here on sshd runs as its socket has started it.
  - reboot: true
checks:
  - { command: sudo -V 2>&1, output: '^sudo-rs ' }
  - { command: readlink /usr/sbin/visudo, output: cargo }
  - { command: sort --version, output: '^sort 0\\.' }
  - { command: base64 --version, output: '^base64 0\\.' }
  - { service: ssh.socket, state: enabled }
  - { service: ssh.socket }
  - { service: ssh.service, state: disabled }
  - { command: 'ls /etc/apt/sources.list', exit: 2 }
  - { command: 'ls /usr/share/doc/rust-coreutils', output: '^copyright$' }
`

const SOURCES = `#!/bin/sh
set -eu
cat > /etc/apt/sources.list.d/ubuntu.sources <<'END'
Types: deb
URIs: http://deb.debian.org/debian
Suites: trixie trixie-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://security.debian.org/debian-security
Suites: trixie-security
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
END
rm /etc/apt/sources.list
cat > /etc/dpkg/dpkg.cfg.d/excludes <<'END'
path-exclude=/usr/share/doc/*
path-include=/usr/share/doc/*/copyright
path-exclude=/usr/share/man/*
END
# Users and modes in there are those of snaps.
mkdir -p /var/lib/snapd/hostfs
touch /var/lib/snapd/hostfs/file
chown 4242:4242 /var/lib/snapd/hostfs/file
chmod 0666 /var/lib/snapd/hostfs/file
`

const PROGRAMS = `#!/bin/sh
set -eu
instead() {
  dpkg-divert --quiet --add --no-rename --divert "$1.old" "$1"
  cp -a "$1" "$1.old"
  ln -sf "$2" "$1"
}
instead /usr/bin/sudo /usr/lib/cargo/bin/sudo
instead /usr/sbin/visudo /usr/lib/cargo/bin/visudo
for program in /usr/lib/cargo/bin/coreutils/*; do
  for folder in /usr/bin /usr/sbin; do
    name="$folder/\${program##*/}"
    [ ! -f "$name" ] || [ -L "$name" ] || instead "$name" "$program"
  done
done
`

const SSH = `#!/bin/sh
set -eu
systemctl --quiet disable ssh.service
systemctl stop ssh.service ssh.socket
systemctl --quiet enable ssh.socket
systemctl start ssh.socket
`

let project: Project
let pve: Pve | undefined

beforeAll(async () => {
  project = await makeProject({
    [`images/${IMAGE}/image.yaml`]: DEFINITION,
    [`images/${IMAGE}/sources.sh`]: SOURCES,
    [`images/${IMAGE}/programs.sh`]: PROGRAMS,
    [`images/${IMAGE}/ssh.sh`]: SSH,
  })
})

afterAll(async () => {
  const own = pve && (await inventory(pve)).guests.filter(({ tags }) => tags.includes(`ib-image-${IMAGE}`))
  for (const { vmid } of own ?? []) {
    const signal = AbortSignal.timeout(60_000)
    if (pve) await destroyGuest(pve, { kind: 'lxc', node: 'lab', vmid, signal })
  }
  await pve?.[Symbol.asyncDispose]()
  await project[Symbol.asyncDispose]()
})

test('is built, hardened, sealed and cloned, and passes every check', async () => {
  const { exitCode, result, stderr } = await project.run([IMAGE], { env: { IMAGEBUILD_VERIFY: 'full' } })
  expect(exitCode, `${stderr}${JSON.stringify(result.error, undefined, 2)}`).toBe(0)
  pve = await labClient()
  const { stdout } = await project.imagebuild(['show', IMAGE, '--verify', '--json'])
  const { summary, results } = JSON.parse(stdout) as Report
  expect(results.filter(({ outcome }) => outcome === 'failed')).toEqual([])
  expect(summary).toMatchObject({ failed: 0, skipped: 0, certificates: 'passed', inside: 'verified' })
  const passed = new Set(results.filter(({ outcome }) => outcome === 'passed').map(({ id }) => id))
  for (const id of ['sudo-terminal/1', 'sudo-log', 'sudo-authenticate/1', 'files-owned/3', 'services-rsync'])
    expect(passed).toContain(id)
})
