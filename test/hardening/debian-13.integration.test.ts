import { randomBytes } from 'node:crypto'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { execa } from 'execa'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { expandHardening } from '../../src/hardening/expand.ts'
import type { MachineTraits } from '../../src/hardening/item.ts'

/** What packages of Debian 13 bring, against items that were first written for Debian 12. */
const VM: MachineTraits = { kind: 'vm', unprivileged: false, containerHost: false, postQuantum: false }
const where = { file: 'image.yaml', line: 1, column: 1 }
const expand = (machine: MachineTraits) => expandHardening({ profile: 'cis-l1', except: {}, where }, machine)
const FILES = expand(VM).applied.flatMap(({ measures }) => measures.files ?? [])

let tree: string
beforeEach(async () => {
  tree = await mkdtemp(join(tmpdir(), 'imagebuild-debian-13-'))
})
afterEach(() => rm(tree, { recursive: true, force: true }))

async function write(files: Record<string, string>): Promise<void> {
  for (const [path, content] of Object.entries(files)) {
    await mkdir(dirname(join(tree, path)), { recursive: true })
    await writeFile(join(tree, path), content)
  }
}

function commandOf(id: string): string {
  const check = expand(VM).checks.find((one) => one.id === id)
  if (check?.kind !== 'command') throw new Error(`${id} is no check by a command`)
  return check.command
}

/** The command of a check, with other paths in it. */
async function ask(id: string, paths: Record<string, string>) {
  const command = Object.entries(paths).reduce((text, [from, to]) => text.replaceAll(from, to), commandOf(id))
  const { exitCode, stdout } = await execa('sh', ['-c', command], { reject: false })
  return { exitCode, stdout }
}

describe('profiles of AppArmor 4', () => {
  const PROFILES = '/sys/kernel/security/apparmor/profiles'
  const asked = async (loaded: string) => {
    await write({
      'apparmor.d/brave':
        'abi <abi/4.0>,\nprofile brave /opt/brave.com/brave/brave flags=(unconfined) {\n  userns,\n}\n',
      'apparmor.d/MongoDB_Compass':
        'profile "MongoDB Compass" "/usr/lib/mongodb-compass/MongoDB Compass" flags=(unconfined) {\n}\n',
      'apparmor.d/sbin.x': 'profile x /usr/sbin/x {\n  # flags=(unconfined) would be too much\n}\n',
      profiles: loaded,
    })
    return await ask('apparmor/3', {
      '/etc/apparmor.d': join(tree, 'apparmor.d'),
      [PROFILES]: join(tree, 'profiles'),
    })
  }

  test('that confine nothing by their own words are no fault', async () => {
    const loaded = 'x (enforce)\nunix-chkpwd (complain)\nbrave (unconfined)\nMongoDB Compass (unconfined)\n'
    expect(await asked(loaded)).toEqual({ exitCode: 1, stdout: '' })
  })

  test('that should confine and do not are named', async () => {
    expect(await asked('x (unconfined)\nbrave (unconfined)\nunknown (unconfined)\n')).toEqual({
      exitCode: 0,
      stdout: 'x (unconfined)\nunknown (unconfined)',
    })
  })
})

describe('settings of systemd', () => {
  test('are in files that sort after those of any package', () => {
    const paths = FILES.map(({ path }) => path).filter((path) =>
      /^\/etc\/systemd\/[a-z]+\.conf\.d\//.test(path),
    )
    expect(paths.length).toBeGreaterThan(3)
    expect(paths.filter((path) => !/\/zz-imagebuild-[a-z-]+\.conf$/.test(path))).toEqual([])
  })

  const effective = async () => {
    const root = { 'systemd-analyze ': `systemd-analyze --root=${tree} `, '/etc/': `${tree}/etc/` }
    return (await ask('logging-one-system', root)).exitCode
  }

  test('of journald: a drop-in of the distribution wins over the main file, and ours over it', async () => {
    await write({
      'usr/lib/systemd/journald.conf.d/syslog.conf': '[Journal]\nForwardToSyslog=yes\n',
      'etc/systemd/journald.conf': '[Journal]\nForwardToSyslog=no\n',
    })
    expect(await effective()).toBe(1)
    const item = expand(VM).applied.find(({ id }) => id === 'logging-one-system')
    const script = (item?.measures.script ?? '').replaceAll('/etc/', `${tree}/etc/`)
    await execa('sh', ['-euc', script])
    expect(await effective()).toBe(0)
  })
})

test('root has no core dumps either: Debian 13 has a limit of its own for root', () => {
  const limits = FILES.find(({ path }) => path.startsWith('/etc/security/limits.d/'))
  // The last one counts, for each user by itself; 20- is that of systemd-coredump.
  expect(limits?.path.split('/').at(-1)?.localeCompare('20-coredump-debian.conf')).toBe(1)
  expect(limits?.content).toMatch(/^root hard core 0$/m)
  expect(limits?.content).toMatch(/^\* hard core 0$/m)
})

const isRoot = process.getuid?.() === 0

describe.skipIf(!isRoot)('reverse path filtering, in a network namespace', () => {
  test('is strict on interfaces to which the distribution gave a loose value', async () => {
    const name = `ibt-${randomBytes(3).toString('hex')}`
    const inside = (...command: string[]) =>
      execa('ip', ['netns', 'exec', name, ...command], { reject: false })
    await execa('ip', ['netns', 'add', name])
    try {
      await inside('ip', 'link', 'add', 'eth0', 'type', 'veth', 'peer', 'name', 'other')
      // As /usr/lib/sysctl.d/50-default.conf has it.
      await inside('sh', '-c', 'for one in /proc/sys/net/ipv4/conf/*/rp_filter; do echo 2 > $one; done')
      const index = expand(VM).checks.find(({ title }) => title === 'net.ipv4.conf.*.rp_filter is 1')
      const before = await inside('sh', '-c', commandOf(index?.id ?? ''))
      expect(before.stdout).toContain('/proc/sys/net/ipv4/conf/eth0/rp_filter:2')
      const item = expand(VM).applied.find(({ id }) => id === 'network-spoofing')
      await write({ 'zz.conf': item?.measures.files?.[0]?.content ?? '' })
      expect((await inside('/lib/systemd/systemd-sysctl', join(tree, 'zz.conf'))).exitCode).toBe(0)
      const after = await inside('sh', '-c', commandOf(index?.id ?? ''))
      expect([after.exitCode, after.stdout]).toEqual([1, ''])
    } finally {
      await execa('ip', ['netns', 'delete', name])
    }
  })
})

describe('mlkem768x25519-sha256', () => {
  const offered = async (known: string[]) => {
    await write({ 'bin/ssh': `#!/bin/sh\nprintf '%s\\n' ${known.join(' ')}\n` })
    await execa('chmod', ['755', join(tree, 'bin/ssh')])
    const item = expand(VM).applied.find(({ id }) => id === 'sshd-algorithms')
    const file = item?.measures.files?.[0]
    await write({ 'algorithms.conf': file?.content ?? '' })
    const script = (item?.measures.script ?? '').replaceAll(file?.path ?? '', join(tree, 'algorithms.conf'))
    await execa('sh', ['-euc', `${script}\ncat ${tree}/algorithms.conf`], {
      env: { PATH: `${tree}/bin:${process.env.PATH}` },
    }).then(({ stdout }) => expect(stdout.match(/^KexAlgorithms /gm)).toHaveLength(1))
    return await execa('sed', ['-n', 's/^KexAlgorithms //p', join(tree, 'algorithms.conf')])
  }

  test('comes first where OpenSSH knows it, and nowhere else', async () => {
    const old = ['sntrup761x25519-sha512@openssh.com', 'curve25519-sha256']
    expect((await offered(old)).stdout).toMatch(/^sntrup761x25519-sha512@openssh\.com,curve25519-sha256,/)
    const current = ['mlkem768x25519-sha256', 'sntrup761x25519-sha512', ...old]
    expect((await offered(current)).stdout).toMatch(
      /^mlkem768x25519-sha256,sntrup761x25519-sha512@openssh\.com,curve25519-sha256,/,
    )
  })
})
