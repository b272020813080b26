import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { copyFile, mkdtemp, open, readFile, rm } from 'node:fs/promises'
import { type AddressInfo, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { execa } from 'execa'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { poll, withDeadline } from '../../src/core/scope.ts'
import { bootstrapDisk } from '../../src/source/bootstrap.ts'
import type { CachedFile } from '../../src/source/context.ts'
import { HOSTNAME, makeCa, makeSeed, type Way } from './certified-seed.ts'
import { DEBIAN_12, SYSTEM } from './harness.ts'

/**
 * Debian from packages, booted by QEMU in software: 12 with BIOS, and 13 with UEFI on another machine type. Its host key
 * is what `ssh-ca host-seed` prints, and ssh knows nothing but the CA.
 */
const recipe = SYSTEM

let folder: string
let cacheDir: string
let disks: Record<'bookworm' | 'trixie', CachedFile>
let knownHosts: string
let otherKnownHosts: string
const signal = AbortSignal.timeout(1_000_000)

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'imagebuild-bootstrap-'))
  cacheDir = process.env.IMAGEBUILD_CACHE_DIR ?? join(folder, 'cache')
  disks = {
    bookworm: await bootstrapDisk(DEBIAN_12, { cacheDir, signal }),
    trixie: await bootstrapDisk(recipe, { cacheDir, signal }),
  }
  await execa('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-C', 'user', '-f', join(folder, 'user')])
  knownHosts = await makeCa(join(folder, 'ca'))
  otherKnownHosts = await makeCa(join(folder, 'other-ca'))
})
afterAll(() => rm(folder, { recursive: true, force: true }))

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  return port
}

/** A running guest; `ssh` runs a command in it as soon as it lets one in. */
async function boot(name: string, suite: keyof typeof disks, firmware: string[], way: Way) {
  // Of its own: where the machine is busy, one boot takes most of what the file has.
  const signal = AbortSignal.timeout(1_100_000)
  const seed = await makeSeed(folder, way)
  const port = await freePort()
  const overlay = join(folder, `${name}.qcow2`)
  const console = join(folder, `${name}.log`)
  await using messages = await open(join(folder, `${name}.stderr`), 'w')
  await execa('qemu-img', [
    'create',
    '-q',
    '-f',
    'qcow2',
    '-b',
    disks[suite].path,
    '-F',
    'qcow2',
    overlay,
    '5G',
  ])
  // It ends with the test's process, whatever ends that: a guest that is left behind eats a processor.
  const qemu: ChildProcess = spawn(
    'setpriv',
    [
      ...['--pdeathsig', 'KILL', 'qemu-system-x86_64'],
      ...firmware,
      ...['-accel', 'tcg', '-cpu', 'qemu64,-svm', '-smp', '1', '-m', '1024', '-display', 'none'],
      ...['-serial', `file:${console}`, '-device', 'virtio-scsi-pci,id=scsi0', '-device', 'virtio-rng-pci'],
      ...['-drive', `file=${overlay},if=none,id=disk,cache=unsafe,discard=unmap`],
      ...['-device', 'scsi-hd,drive=disk,bus=scsi0.0,bootindex=1'],
      ...['-drive', `file=${seed},if=none,id=seed,media=cdrom,readonly=on`],
      ...['-device', 'scsi-cd,drive=seed,bus=scsi0.0'],
      ...[
        '-netdev',
        `user,id=net0,hostfwd=tcp:127.0.0.1:${port}-:22`,
        '-device',
        'virtio-net-pci,netdev=net0',
      ],
      ...['-device', 'virtio-serial-pci', '-chardev', 'null,id=agent'],
      ...['-device', 'virtserialport,chardev=agent,name=org.qemu.guest_agent.0'],
    ],
    { stdio: ['ignore', 'ignore', messages.fd] },
  )
  const options = Object.entries({
    BatchMode: 'yes',
    ConnectTimeout: '5',
    GlobalKnownHostsFile: '/dev/null',
    HostKeyAlias: HOSTNAME,
    IdentityFile: join(folder, 'user'),
    LogLevel: 'ERROR',
    Port: String(port),
    // A guest that goes down does not always say so: without this a command waits for its answer for ever.
    ServerAliveCountMax: '6',
    ServerAliveInterval: '10',
    StrictHostKeyChecking: 'yes',
    UserKnownHostsFile: knownHosts,
  }).flatMap(([option, value]) => ['-o', `${option}=${value}`])
  const ssh = (command: string, other: string[], limit: AbortSignal) =>
    // The first value that ssh is given is the one that counts.
    execa('ssh', ['-F', 'none', ...other, ...options, 'tester@127.0.0.1', command], {
      ...{ reject: false, stdin: 'ignore', cancelSignal: limit },
    })
  const attempt = async (command: string, limit: AbortSignal): Promise<string | undefined> => {
    if (qemu.exitCode !== null)
      throw new Error(`QEMU ended: ${await readFile(join(folder, `${name}.stderr`), 'utf8')}`)
    const result = await ssh(command, [], limit)
    limit.throwIfAborted()
    // However early it is asked, it never shows a key that the client has to take on trust.
    if (result.stderr.includes('Host key verification failed')) throw new Error(result.stderr)
    if (result.exitCode === 255) return undefined
    if (result.exitCode !== 0) throw new Error(`${command}: ${result.exitCode} ${result.stderr}`)
    return result.stdout
  }
  return {
    /** stdout of a command; waits until the guest answers as a whole */
    async ssh(command: string): Promise<string> {
      using limit = withDeadline(signal, 500, `${name}: ${command}`)
      try {
        return await poll(() => attempt(command, limit), { signal: limit, max: 1000 })
      } catch (error) {
        const tail = (await readFile(console, 'utf8')).slice(-3000)
        throw new Error(`${(error as Error).message}\nThe guest's console:\n${tail}`, { cause: error })
      }
    },
    /** stderr of an ssh that does not get in, with other options */
    async refusal(...other: string[]): Promise<string> {
      using limit = withDeadline(signal, 60, `${name}: ${other}`)
      const { exitCode, stderr } = await ssh('true', other, limit)
      expect(exitCode).toBe(255)
      return stderr
    },
    async [Symbol.asyncDispose]() {
      if (qemu.exitCode !== null) return
      qemu.kill('SIGKILL')
      await once(qemu, 'exit')
    },
  }
}

test('a second bootstrap is an answer from the cache', async () => {
  const lines: string[] = []
  const again = await bootstrapDisk(recipe, { cacheDir, signal, onLine: (line) => lines.push(line) })
  expect(again).toEqual(disks.trixie)
  // Not a word of mmdebstrap.
  expect(lines).toEqual([])
})

test('a bootstrap that is given up leaves nothing behind', async () => {
  const controller = new AbortController()
  const other = join(folder, 'aborted')
  const attempt = bootstrapDisk(recipe, {
    cacheDir: other,
    signal: controller.signal,
    onLine: (line) => {
      if (line.includes('Setting up') || line.includes('extracting')) controller.abort(new Error('enough'))
    },
  })
  await expect(attempt).rejects.toThrow('enough')
  const { stdout } = await execa('find', [other, '-maxdepth', '1', '-name', 'bootstrap-*'])
  expect(stdout).toBe('')
  expect(await readFile('/proc/self/mounts', 'utf8')).not.toContain(other)
})

describe.each([
  {
    ...({ name: 'BIOS on pc', suite: 'bookworm', way: 'vendor-data' } as const),
    ...{ machine: ['-machine', 'pc'], uefi: false },
  },
  {
    ...({ name: 'UEFI on q35', suite: 'trixie', way: 'multipart' } as const),
    ...{ machine: ['-machine', 'q35'], uefi: true },
  },
])('$suite, booted with $name, host key in $way', ({ name, suite, machine, uefi, way }) => {
  test('is a Debian that cloud-init has set up, survives its own boot loader update, and shares no identity', async () => {
    const firmware = [...machine]
    if (uefi) {
      const variables = join(folder, 'variables.fd')
      await copyFile('/usr/share/OVMF/OVMF_VARS_4M.fd', variables)
      const flash = (path: string, more: string) => ['-drive', `if=pflash,format=raw,file=${path}${more}`]
      firmware.push(...flash('/usr/share/OVMF/OVMF_CODE_4M.fd', ',readonly=on'), ...flash(variables, ''))
    }
    await using guest = await boot(name.replaceAll(' ', '-'), suite, firmware, way)

    expect(await guest.ssh('cloud-init status --wait')).toContain('status: done')
    expect(await guest.ssh('. /etc/os-release; echo $VERSION_CODENAME; hostname')).toBe(`${suite}\ntester`)
    expect(await guest.ssh('systemctl --failed --no-legend')).toBe('')
    expect(await guest.ssh('systemctl is-active qemu-guest-agent systemd-networkd')).toBe('active\nactive')
    expect(await guest.ssh('test -d /sys/firmware/efi && echo uefi || echo bios')).toBe(
      uefi ? 'uefi' : 'bios',
    )
    // The root file system has grown with the disk.
    expect(Number(await guest.ssh('df --output=size -B1M / | tail -1'))).toBeGreaterThan(4500)
    // Only the key of the seed: the image brings none.
    expect(await guest.ssh('ls /etc/ssh/*_key')).toBe('/etc/ssh/ssh_host_ed25519_key')
    expect(await guest.ssh('sudo sshd -T | grep ^hostcertificate')).toBe(
      'hostcertificate /etc/ssh/ssh_host_ed25519_key-cert.pub',
    )
    await believesByCertificateAlone(guest)
    expect(await guest.ssh('cat /etc/machine-id')).toMatch(/^[0-9a-f]{32}$/)
    expect(
      await guest.ssh('ls /var/lib/apt/lists /var/cache/apt/archives/*.deb 2>/dev/null; true'),
    ).not.toMatch(/_Packages|\.deb/)
    expect(await guest.ssh('sudo ls /boot/efi/EFI')).toBe('BOOT\ndebian')

    // What the packages of the boot loader do when they are updated.
    await guest.ssh('sudo update-grub')
    await guest.ssh(
      uefi
        ? 'sudo grub-install --target=x86_64-efi --no-nvram --uefi-secure-boot --force-extra-removable'
        : 'sudo grub-install --target=i386-pc /dev/sda',
    )
    const before = await guest.ssh('cat /proc/sys/kernel/random/boot_id')
    await guest.ssh('sudo systemctl --no-block reboot')
    using limit = withDeadline(undefined, 500, 'the reboot')
    const after = await poll(
      async () => {
        const id = await guest.ssh('cat /proc/sys/kernel/random/boot_id')
        return id === before ? undefined : id
      },
      { signal: limit, max: 2000 },
    )
    expect(after).not.toBe(before)
    expect(await guest.ssh('cat /proc/cmdline')).toContain('console=ttyS0,115200')
  })
})

/** Every login so far was strict, with the CA's line alone; these differ in one thing each. */
async function believesByCertificateAlone(guest: Awaited<ReturnType<typeof boot>>): Promise<void> {
  expect(await readFile(knownHosts, 'utf8')).toMatch(
    /^@cert-authority \*\.home\.example ssh-ed25519 [^\n]*\n$/,
  )
  const refused = /Host key verification failed/
  expect(await guest.refusal('-o', `UserKnownHostsFile=${otherKnownHosts}`)).toMatch(refused)
  expect(await guest.refusal('-o', 'HostKeyAlias=other.home.example')).toMatch(refused)
}
