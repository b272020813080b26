import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { execa } from 'execa'
import { afterEach, beforeEach, expect, test } from 'vitest'

/** ssh-unit.sh on a tree with units as openssh-server has them, and the real systemctl. */
const SCRIPT = new URL('../../src/build/ssh-unit.sh', import.meta.url).pathname
const SOCKET = 'sockets.target.wants/ssh.socket'
const SERVICE = 'multi-user.target.wants/ssh.service'

let tree: string
beforeEach(async () => {
  tree = await mkdtemp(join(tmpdir(), 'imagebuild-ssh-unit-'))
  const units = {
    'ssh.service':
      '[Service]\nExecStart=/bin/true\n[Install]\nWantedBy=multi-user.target\nAlias=sshd.service\n',
    'ssh.socket': '[Socket]\nListenStream=22\n[Install]\nWantedBy=sockets.target\n',
  }
  for (const [name, content] of Object.entries(units)) await write(`usr/lib/systemd/system/${name}`, content)
})
afterEach(() => rm(tree, { recursive: true, force: true }))

async function write(path: string, content: string): Promise<void> {
  await mkdir(dirname(join(tree, path)), { recursive: true })
  await writeFile(join(tree, path), content)
}

async function enable(...units: string[]): Promise<void> {
  await execa('systemctl', ['--quiet', '--root', tree, 'enable', ...units])
}

/** What dpkg's helper writes down of the links that a package has had from the beginning. */
async function packaged(...links: string[]): Promise<void> {
  for (const link of links) await write(`var/lib/systemd/deb-systemd-helper-enabled/${link}`, '')
}

async function sealed(): Promise<{ said: string; enabled: string[] }> {
  const { stdout: said } = await execa('sh', [SCRIPT], { env: { ROOT: tree } })
  const enabled: string[] = []
  for (const unit of ['ssh.service', 'ssh.socket']) {
    const { stdout } = await execa('systemctl', ['--root', tree, 'is-enabled', unit], { reject: false })
    if (stdout === 'enabled') enabled.push(unit)
  }
  return { said, enabled }
}

test('of two, Debian keeps the service', async () => {
  await packaged(SERVICE)
  await enable('ssh.service', 'ssh.socket')
  const { said, enabled } = await sealed()
  expect(enabled).toEqual(['ssh.service'])
  expect(said).toContain('ssh.socket is not any more')
  expect(await sealed()).toEqual({ said: '', enabled: ['ssh.service'] })
})

test('of two, Ubuntu keeps the socket', async () => {
  await packaged(SOCKET)
  await enable('ssh.service', 'ssh.socket')
  expect((await sealed()).enabled).toEqual(['ssh.socket'])
})

test('where nobody has written down which, the service stays', async () => {
  await enable('ssh.service', 'ssh.socket')
  expect((await sealed()).enabled).toEqual(['ssh.service'])
})

test.each([['ssh.socket'], ['ssh.service']])('%s alone is somebody’s choice, and stays', async (unit) => {
  await packaged(SERVICE)
  await enable(unit)
  expect(await sealed()).toEqual({ said: '', enabled: [unit] })
})

test('a masked service beside the socket is a choice too', async () => {
  await packaged(SERVICE)
  await enable('ssh.socket')
  await mkdir(join(tree, 'etc/systemd/system'), { recursive: true })
  await symlink('/dev/null', join(tree, 'etc/systemd/system/ssh.service'))
  expect(await sealed()).toEqual({ said: '', enabled: ['ssh.socket'] })
})

test('a system without an SSH server has nothing to choose', async () => {
  await rm(join(tree, 'usr'), { recursive: true })
  expect(await sealed()).toEqual({ said: '', enabled: [] })
})
