import { appendFile, mkdir, readFile, symlink, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { execa } from 'execa'
import type { Report } from '../../src/build/verify/report.ts'

/** What verified templates have in their definitions, what is planted into spoiled ones, and how reports are read. */

export const CHECKS = `checks:
  - name: the system is Debian 13
    command: cat /etc/os-release
    output: '^VERSION_ID="13"$'
  - file: /etc/shadow
    mode: "0640"
    owner: root:shadow
  - package: openssh-server
  - service: ssh.service
    state: active
  - port: 22
`
export const PASSWORDS_OFF = `provision:
  - file: { path: /etc/ssh/sshd_config.d/10-passwords.conf, content: "PasswordAuthentication no\\nKbdInteractiveAuthentication no\\n" }
`

export const failures = (report: Report) =>
  report.results.filter(({ outcome }) => outcome === 'failed').map(({ group, id }) => `${group}/${id}`)
export const found = (report: Report, id: string) =>
  report.results.find((result) => `${result.group}/${result.id}` === id)?.found ?? ''
export const outcomes = (report: Report, group: string) =>
  Object.fromEntries(
    report.results.filter((one) => one.group === group).map(({ id, outcome }) => [id, outcome]),
  )

/** What sealing removes, put back. */
export async function plant(root: string): Promise<void> {
  const at = (path: string) => join(root, path)
  await mkdir(at('root/.ssh'), { recursive: true, mode: 0o700 })
  await execa('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-C', 'left', '-f', at('root/.ssh/id_ed25519')])
  const key = await readFile(at('root/.ssh/id_ed25519.pub'), 'utf8')
  await writeFile(at('root/.ssh/authorized_keys'), key)
  await execa('ssh-keygen', [
    '-q',
    '-t',
    'ed25519',
    '-N',
    '',
    '-C',
    'imagebuild-host-0a1b2c3d',
    '-f',
    at('etc/ssh/ssh_host_ed25519_key'),
  ])
  await execa('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', at('etc/ssh/user_ca')])
  await writeFile(at('root/.bash_history'), 'curl -H "Authorization: Bearer …"\n')
  await writeFile(at('root/.netrc'), 'machine example.org login me password secret\n')
  await appendFile(at('etc/passwd'), 'imagebuild:x:1000:1000::/home/imagebuild:/bin/sh\n')
  // What a first boot enables.
  const socket = 'etc/systemd/system/sockets.target.wants/ssh.socket'
  await mkdir(dirname(at(socket)), { recursive: true })
  await symlink('/usr/lib/systemd/system/ssh.socket', at(socket))
  await mkdir(at('var/lib/cloud/seed/nocloud'), { recursive: true })
  await writeFile(at('var/lib/cloud/seed/nocloud/meta-data'), 'instance-id: imagebuild-0a1b2c3d\n')
  await mkdir(at('var/lib/cloud/instances/imagebuild-0a1b2c3d'), { recursive: true })
  await writeFile(at('var/lib/dhcp/dhclient.eth0.leases'), 'lease {\n  fixed-address 192.0.2.7;\n}\n').catch(
    () => {},
  )
}
export const PLANTED = [
  'authorized-key',
  'private-key',
  'host-key',
  'history',
  'token',
  'builder',
  'seed',
  'cloud-init',
  'trace',
]
