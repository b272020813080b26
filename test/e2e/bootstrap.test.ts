import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { copyFile, mkdir, mkdtemp, open, readFile, rm, writeFile } from 'node:fs/promises'
import { type AddressInfo, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { execa } from 'execa'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { poll, withDeadline } from '../../src/core/scope.ts'
import { bootstrapDisk } from '../../src/source/bootstrap.ts'
import type { CachedFile } from '../../src/source/context.ts'

/** Debian 12 from packages, booted by QEMU in software: with BIOS, and with UEFI on another machine type. */
const recipe = { distribution: 'debian', suite: 'bookworm', arch: 'amd64' } as const

let folder: string
let cacheDir: string
let disk: CachedFile
const signal = AbortSignal.timeout(1_000_000)

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'imagebuild-bootstrap-'))
  cacheDir = process.env.IMAGEBUILD_CACHE_DIR ?? join(folder, 'cache')
  disk = await bootstrapDisk(recipe, { cacheDir, signal })
  for (const key of ['user', 'host']) {
    await execa('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-C', key, '-f', join(folder, key)])
  }
  await makeSeed()
})
afterAll(() => rm(folder, { recursive: true, force: true }))

async function makeSeed() {
  const seed = join(folder, 'seed')
  await mkdir(seed)
  const key = (name: string) => readFile(join(folder, name), 'utf8')
  const user = {
    name: 'tester',
    sudo: 'ALL=(ALL) NOPASSWD:ALL',
    ssh_authorized_keys: [(await key('user.pub')).trim()],
  }
  const config = {
    users: [user],
    ssh_keys: { ed25519_private: await key('host'), ed25519_public: await key('host.pub') },
  }
  // JSON is YAML too.
  await writeFile(join(seed, 'user-data'), `#cloud-config\n${JSON.stringify(config)}\n`)
  await writeFile(join(seed, 'meta-data'), 'instance-id: one\nlocal-hostname: tester\n')
  await execa('xorriso', ['-as', 'mkisofs', '-quiet', '-V', 'cidata', '-J', '-R', '-o', `${seed}.iso`, seed])
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  return port
}

/** A running guest; `ssh` runs a command in it as soon as it lets one in. */
async function boot(name: string, firmware: string[]) {
  const port = await freePort()
  const overlay = join(folder, `${name}.qcow2`)
  const console = join(folder, `${name}.log`)
  await using messages = await open(join(folder, `${name}.stderr`), 'w')
  await execa('qemu-img', ['create', '-q', '-f', 'qcow2', '-b', disk.path, '-F', 'qcow2', overlay, '5G'])
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
      ...['-drive', `file=${join(folder, 'seed.iso')},if=none,id=seed,media=cdrom,readonly=on`],
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
  const knownHosts = join(folder, `${name}.known_hosts`)
  const [type, key] = (await readFile(join(folder, 'host.pub'), 'utf8')).split(' ')
  await writeFile(knownHosts, `[127.0.0.1]:${port} ${type} ${key}\n`)
  const options = Object.entries({
    BatchMode: 'yes',
    ConnectTimeout: '5',
    IdentityFile: join(folder, 'user'),
    LogLevel: 'ERROR',
    Port: String(port),
    // A guest that goes down does not always say so: without this a command waits for its answer for ever.
    ServerAliveCountMax: '6',
    ServerAliveInterval: '10',
    StrictHostKeyChecking: 'yes',
    UserKnownHostsFile: knownHosts,
  }).flatMap(([option, value]) => ['-o', `${option}=${value}`])
  const attempt = async (command: string, limit: AbortSignal): Promise<string | undefined> => {
    if (qemu.exitCode !== null)
      throw new Error(`QEMU ended: ${await readFile(join(folder, `${name}.stderr`), 'utf8')}`)
    const ssh = ['-F', 'none', ...options, 'tester@127.0.0.1', command]
    const result = await execa('ssh', ssh, { reject: false, stdin: 'ignore', cancelSignal: limit })
    limit.throwIfAborted()
    if (result.exitCode === 255) return undefined
    if (result.exitCode !== 0) throw new Error(`${command}: ${result.exitCode} ${result.stderr}`)
    return result.stdout
  }
  return {
    /** stdout of a command; waits until the guest answers as a whole */
    async ssh(command: string): Promise<string> {
      using limit = withDeadline(signal, 300, `${name}: ${command}`)
      try {
        return await poll(() => attempt(command, limit), { signal: limit, max: 1000 })
      } catch (error) {
        const tail = (await readFile(console, 'utf8')).slice(-3000)
        throw new Error(`${(error as Error).message}\nThe guest's console:\n${tail}`, { cause: error })
      }
    },
    async [Symbol.asyncDispose]() {
      if (qemu.exitCode !== null) return
      qemu.kill('SIGKILL')
      await once(qemu, 'exit')
    },
  }
}

test('a second bootstrap is an answer from the cache', async () => {
  const started = performance.now()
  expect(await bootstrapDisk(recipe, { cacheDir, signal })).toEqual(disk)
  expect(performance.now() - started).toBeLessThan(1000)
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
  ['BIOS on pc', ['-machine', 'pc'], false],
  ['UEFI on q35', ['-machine', 'q35'], true],
])('booted with %s', (name, machine, uefi) => {
  test('is a Debian that cloud-init has set up, survives its own boot loader update, and shares no identity', async () => {
    const firmware = [...machine]
    if (uefi) {
      const variables = join(folder, 'variables.fd')
      await copyFile('/usr/share/OVMF/OVMF_VARS_4M.fd', variables)
      const flash = (path: string, more: string) => ['-drive', `if=pflash,format=raw,file=${path}${more}`]
      firmware.push(...flash('/usr/share/OVMF/OVMF_CODE_4M.fd', ',readonly=on'), ...flash(variables, ''))
    }
    await using guest = await boot(name.replaceAll(' ', '-'), firmware)

    expect(await guest.ssh('cloud-init status --wait')).toContain('status: done')
    expect(await guest.ssh('. /etc/os-release; echo $VERSION_CODENAME; hostname')).toBe('bookworm\ntester')
    expect(await guest.ssh('systemctl --failed --no-legend')).toBe('')
    expect(await guest.ssh('systemctl is-active qemu-guest-agent systemd-networkd')).toBe('active\nactive')
    expect(await guest.ssh('test -d /sys/firmware/efi && echo uefi || echo bios')).toBe(
      uefi ? 'uefi' : 'bios',
    )
    // The root file system has grown with the disk.
    expect(Number(await guest.ssh('df --output=size -B1M / | tail -1'))).toBeGreaterThan(4500)
    // Only the key of the seed: the image brings none.
    expect(await guest.ssh('ls /etc/ssh/*_key')).toBe('/etc/ssh/ssh_host_ed25519_key')
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
    using limit = withDeadline(signal, 300, 'the reboot')
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
