import { chmod, chown, mkdir, mkdtemp, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { execa } from 'execa'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { expandHardening } from '../../src/hardening/expand.ts'
import type { HardeningItem, MachineTraits, Measures } from '../../src/hardening/item.ts'
import { ACCOUNTS } from '../../src/hardening/items/accounts.ts'
import { FAILLOCK } from '../../src/hardening/items/faillock.ts'
import { FILES } from '../../src/hardening/items/files.ts'
import { PASSWORD_QUALITY } from '../../src/hardening/items/password-quality.ts'
import { PASSWORDS } from '../../src/hardening/items/passwords.ts'
import { SERVICES } from '../../src/hardening/items/services.ts'
import { SESSIONS } from '../../src/hardening/items/sessions.ts'
import { SSHD } from '../../src/hardening/items/sshd.ts'
import { SUDO } from '../../src/hardening/items/sudo.ts'

/** The items about who gets in and what is theirs: what can break without anybody seeing it. */
const ITEMS = [
  ...PASSWORD_QUALITY,
  ...FAILLOCK,
  ...PASSWORDS,
  ...SESSIONS,
  ...ACCOUNTS,
  ...SUDO,
  ...FILES,
  ...SERVICES,
  ...SSHD,
]
const vm: MachineTraits = { kind: 'vm', unprivileged: false, containerHost: false, postQuantum: false }
const lxc: MachineTraits = { ...vm, kind: 'lxc', unprivileged: true }
const where = { file: 'image.yaml', line: 1, column: 1 }

const ALL = new Set(ITEMS.map(({ id }) => id))
const measuresOf = ({ measures }: HardeningItem, machine: MachineTraits): Measures =>
  typeof measures === 'function' ? measures(machine, ALL) : measures
const checksOf = ({ checks }: HardeningItem, machine: MachineTraits) =>
  typeof checks === 'function' ? checks(machine, ALL) : checks
const filesOf = (machine: MachineTraits, items: readonly HardeningItem[] = ITEMS) =>
  items.flatMap((item) =>
    item.notApplicable?.(machine) === undefined ? (measuresOf(item, machine).files ?? []) : [],
  )

let folder: string
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'imagebuild-access-'))
})
afterAll(() => rm(folder, { recursive: true, force: true }))

test('ids are there once', () => {
  const ids = ITEMS.map(({ id }) => id)
  expect(new Set(ids).size).toBe(ids.length)
})

test.each(ITEMS.map((item) => [item.id, item] as const))(
  '%s says who asks for it, and proves itself',
  (id, item) => {
    expect(id).toMatch(/^[a-z]+(-[a-z0-9]+)+$/)
    expect(id.startsWith(`${item.area}-`)).toBe(true)
    expect(item.sources.length).toBeGreaterThan(0)
    for (const machine of [vm, lxc, { ...vm, postQuantum: true }]) {
      const checks = checksOf(item, machine)
      expect(checks.length).toBeGreaterThan(0)
      const titles = checks.map(({ title }) => title ?? item.title)
      expect(new Set(titles).size).toBe(titles.length)
      for (const check of checks) {
        const patterns = [
          check.kind === 'command' ? check.output : undefined,
          ...(check.kind === 'file' ? [check.contains, check.lacks] : []),
          check.kind === 'sshd' ? check.value : undefined,
        ]
        for (const pattern of patterns) if (pattern !== undefined) new RegExp(pattern, 'm')
        // A check that everything passes would be: nothing is looked for in a file that may not be there.
        if (check.kind === 'sshd') expect('').not.toMatch(new RegExp(`^(?:${check.value})$`, 'm'))
      }
    }
  },
)

test('no file is written by two items', () => {
  for (const machine of [vm, lxc]) {
    const paths = filesOf(machine).map(({ path }) => path)
    expect(new Set(paths).size).toBe(paths.length)
  }
})

test.each([vm, lxc].map((machine) => [machine.kind, machine] as const))(
  'scripts and commands for %s are shell',
  async (_, machine) => {
    const scripts = ITEMS.flatMap((item) => {
      const { script, atSeal } = measuresOf(item, { ...machine, postQuantum: true })
      const commands = checksOf(item, machine).flatMap((check) =>
        check.kind === 'command' ? [check.command] : [],
      )
      return [script, atSeal, ...commands].filter((one) => one !== undefined)
    })
    for (const script of scripts) {
      const { exitCode, stderr } = await execa('sh', ['-n'], { input: script, reject: false })
      expect(`${exitCode} ${stderr}`, script).toBe('0 ')
    }
  },
)

describe('sshd', () => {
  const dropIns = (machine: MachineTraits) =>
    filesOf(machine, SSHD).filter(({ path }) => path.startsWith('/etc/ssh/sshd_config.d/'))

  test('drop-ins sort before cloud-init’s, and are root’s alone', () => {
    for (const { path, mode } of [...dropIns(vm), ...dropIns(lxc)]) {
      expect(path < '/etc/ssh/sshd_config.d/50-cloud-init.conf').toBe(true)
      expect(path).toMatch(/\.conf$/)
      expect(mode).toBe('0600')
    }
    expect(dropIns(vm).map(({ path }) => path)).toContain(
      '/etc/ssh/sshd_config.d/10-imagebuild-hardening.conf',
    )
  })

  test('no keyword stands in two drop-ins', () => {
    const keywords = dropIns(vm).flatMap(({ content }) =>
      content
        .trim()
        .split('\n')
        .map((line) => line.split(' ')[0]),
    )
    // Host keys add up.
    const once = keywords.filter((keyword) => keyword !== 'HostKey')
    expect(new Set(once).size).toBe(once.length)
  })

  test.each([vm, lxc].map((machine) => [machine.kind, machine] as const))(
    'a real sshd has the values that the checks of %s ask for, against cloud-init',
    async (_, machine) => {
      const base = join(folder, machine.kind)
      await mkdir(join(base, 'd'), { recursive: true })
      for (const { path, content } of dropIns(machine))
        await writeFile(join(base, 'd', path.split('/').at(-1) ?? ''), content)
      await writeFile(
        join(base, 'd', '50-cloud-init.conf'),
        'PasswordAuthentication yes\nPermitRootLogin yes\n',
      )
      const key = join(base, 'key')
      await execa('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', key])
      const config = join(base, 'sshd_config')
      await writeFile(config, `Include ${base}/d/*.conf\nHostKey ${key}\nX11Forwarding yes\n`)
      await mkdir('/run/sshd', { recursive: true })
      const { stdout } = await execa('/usr/sbin/sshd', ['-T', '-f', config])
      const lines = stdout.split('\n')
      const asked = SSHD.flatMap((item) => checksOf(item, machine)).filter((check) => check.kind === 'sshd')
      for (const { keyword, value } of asked) {
        const found = lines
          .filter((line) => line.startsWith(`${keyword} `))
          .map((line) => line.slice(keyword.length + 1))
        expect(
          found.some((one) => new RegExp(`^(?:${value})$`).test(one)),
          `${keyword}: ${found}, not ${value}`,
        ).toBe(true)
      }
      expect(stdout).toContain('curve25519-sha256,')
      expect(stdout).toMatch(
        machine.kind === 'vm' ? /^permitrootlogin no$/m : /^permitrootlogin without-password$/m,
      )
      expect(stdout).toMatch(/^passwordauthentication no$/m)
      // root is how containers are entered.
      expect(/^denyusers root$/m.test(stdout)).toBe(machine.kind === 'vm')
      expect(stdout).not.toMatch(/^allow(users|groups) /m)
    },
  )
})

test('post-quantum key exchange alone comes at the very end, and only where it is asked for', () => {
  const expand = (machine: MachineTraits) =>
    expandHardening({ profile: 'baseline', except: {}, where }, machine, ITEMS)
  expect(expand(vm).atSeal).toBe('')
  expect(expand(vm).left.map(({ id }) => id)).toContain('sshd-post-quantum')
  const asked = expand({ ...vm, postQuantum: true })
  expect(asked.atSeal).toContain('09-imagebuild-post-quantum.conf')
  const kex = asked.checks.filter((check) => /kexalgorithms/.test(JSON.stringify(check)))
  expect(kex.map(({ id }) => id)).toEqual(['sshd-post-quantum'])
})

test('containers have no boot loader, and make their first keys by the unit of the seal', () => {
  const { left } = expandHardening({ profile: 'cis-l1', except: {}, where }, lxc, ITEMS)
  expect(left.map(({ id }) => id)).toContain('files-boot-loader')
  const unit = '/etc/systemd/system/imagebuild-first-boot.service.d/10-host-keys.conf'
  expect(filesOf(lxc).map(({ path }) => path)).toContain(unit)
  expect(filesOf(vm).map(({ path }) => path)).not.toContain(unit)
})

test('rules of sudo are valid, for root to read, and give nobody rights', async () => {
  const rules = filesOf(vm).filter(({ path }) => path.startsWith('/etc/sudoers.d/'))
  expect(rules.length).toBeGreaterThan(0)
  for (const { path, content, mode } of rules) {
    expect(mode).toBe('0440')
    // sudo passes over names with a dot.
    expect(path.split('/').at(-1)).toMatch(/^[a-z0-9-]+$/)
    expect(content).toMatch(/^(Defaults [^\n]+\n)+$/)
  }
})

test('files in layers of containers keep their modes and owners; others are looked at', async () => {
  const root = join(folder, 'root')
  const layer = 'var/lib/docker/overlay2/x/diff/tmp'
  await mkdir(join(root, layer), { recursive: true })
  await mkdir(join(root, 'srv/docker'), { recursive: true })
  for (const path of [`${layer}/file`, 'srv/docker/file']) {
    await writeFile(join(root, path), '')
    await chmod(join(root, path), 0o666)
    await chown(join(root, path), 123456, 123456)
  }
  await chmod(join(root, layer), 0o777)
  const item = FILES.find(({ id }) => id === 'files-owned') as HardeningItem
  // A change of root needs a shell in there: what is looked through is moved instead.
  const moved = (command: string) =>
    command.replaceAll('find / ', `find ${root} `).replaceAll('-path /', `-path ${root}/`)
  /** Of each check the lines that it must not have. */
  const found = async () => {
    const checks = checksOf(item, vm).flatMap((check) => (check.kind === 'command' ? [check] : []))
    return await Promise.all(
      checks.map(async ({ command, lacks = '' }) => {
        const { stdout } = await execa('sh', ['-c', moved(command)], { reject: false })
        return stdout.split('\n').filter((line) => new RegExp(lacks).test(line))
      }),
    )
  }
  const outside = join(root, 'srv/docker/file')
  expect(await found()).toEqual([[`writable ${outside}`], [], [`ownerless ${outside}`]])
  await execa('sh', ['-eu'], { input: moved(measuresOf(item, vm).script as string) })
  expect(await found()).toEqual([[], [], [`ownerless ${outside}`]])
  expect((await stat(outside)).mode & 0o777).toBe(0o664)
  expect((await stat(join(root, layer, 'file'))).mode & 0o777).toBe(0o666)
  expect((await stat(join(root, layer))).mode & 0o1777).toBe(0o777)
})
