import { execFileSync } from 'node:child_process'
import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { QemuMachines } from '../../src/lab/machines.ts'
import { labNames } from '../../src/lab/names.ts'
import type { MachineSpec } from '../../src/lab/world.ts'

let dir: string
let machines: QemuMachines
let ended: number[]
const quiet = () => {}

async function open(): Promise<QemuMachines> {
  const opened = new QemuMachines({
    dir,
    names: labNames(dir),
    accelerator: 'tcg',
    attach: async () => {},
    onEnd: (vmid) => ended.push(vmid),
  })
  await opened.open()
  return opened
}

/** QEMU with firmware only: it finds nothing to boot and stays there. */
function diskless(vmid: number, changes: Partial<MachineSpec> = {}): MachineSpec {
  return {
    vmid,
    name: `test-${vmid}`,
    cores: 1,
    sockets: 1,
    memory: 32,
    bios: 'seabios',
    boot: [],
    drives: [{ slot: 'ide2', media: 'cdrom', options: {} }],
    nics: [],
    serial: true,
    agent: true,
    smbiosUuid: '11111111-2222-3333-4444-555555555555',
    ...changes,
  }
}

async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await condition())) await delay(10)
}

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'imagebuild-machines-'))
  ended = []
  machines = await open()
})
afterEach(async () => {
  await machines.stopAll()
  machines.close()
  await rm(dir, { recursive: true, force: true })
  await rm(labNames(dir).runtime, { recursive: true, force: true })
})

const notRoot = process.getuid?.() !== 0

describe.skipIf(notRoot)(`machines${notRoot ? ' (skipped: needs root)' : ''}`, () => {
  test('start, run, reset and stop, and leave nothing but their log', async () => {
    await machines.start(diskless(100), quiet)
    expect(await machines.status(100)).toMatchObject({ running: true, qmpstatus: 'running' })
    await expect(machines.start(diskless(100), quiet)).rejects.toThrow('VM 100 already running')
    await machines.reset(100)
    expect(await machines.monitor(100, 'info status')).toContain('VM status: running')
    await machines.stop(100)
    expect(await machines.status(100)).toMatchObject({ running: false, qmpstatus: 'stopped' })
    expect(ended).toEqual([100])
    expect(await readdir(labNames(dir).runtime)).toEqual([])
    expect(await readdir(join(dir, 'machines/100'))).toContain('serial.log')
    await machines.stop(100)
  })

  test('say why QEMU does not start, and leave nothing', async () => {
    const log: string[] = []
    const broken = diskless(100, { cpu: 'no-such-cpu' })
    await expect(machines.start(broken, (line) => log.push(line))).rejects.toThrow(
      'start failed: QEMU exited with code 1',
    )
    expect(log.join()).toContain("unable to find CPU model 'no-such-cpu'")
    expect(await machines.running()).toEqual([])
    expect(await readdir(labNames(dir).runtime)).toEqual([])
  })

  test('outlive the daemon that started them; the next one takes them over', async () => {
    await machines.start(diskless(100), quiet)
    const { pid } = await machines.status(100)
    machines.close()
    machines = await open()
    expect(await machines.running()).toEqual([100])
    expect(await machines.status(100)).toMatchObject({ running: true, pid })
  })

  test('are noticed when they die, with or without a daemon', async () => {
    await machines.start(diskless(100), quiet)
    await machines.start(diskless(101), quiet)
    const pids = await Promise.all(
      [100, 101].map(async (vmid) => (await machines.status(vmid)).pid as number),
    )
    process.kill(pids[0] as number, 'SIGKILL')
    await until(() => ended.includes(100))
    expect(await machines.running()).toEqual([101])
    machines.close()
    process.kill(pids[1] as number, 'SIGKILL')
    machines = await open()
    expect(await machines.running()).toEqual([])
    expect(await readdir(labNames(dir).runtime)).toEqual([])
  })

  test('a stranger with a remembered pid is left alone', async () => {
    machines.close()
    const stranger = execFileSync('sh', ['-c', 'sleep 60 >/dev/null 2>&1 & echo $!']).toString().trim()
    const { runtime } = labNames(dir)
    await writeFile(join(runtime, '100.pid'), stranger)
    await writeFile(join(runtime, '100.json'), JSON.stringify(diskless(100)))
    machines = await open()
    expect(await machines.running()).toEqual([])
    expect(() => process.kill(Number(stranger), 0)).not.toThrow()
    process.kill(Number(stranger), 'SIGKILL')
  })

  test('a silent agent: said at once to who asks it, and a timeout for a shutdown', async () => {
    await machines.start(diskless(100), quiet)
    await expect(machines.agent(100, 'guest-ping')).rejects.toThrow('QEMU guest agent is not running')
    await expect(machines.shutdown(100, 0.3)).rejects.toThrow('VM quit/powerdown failed - got timeout')
    expect(await machines.running()).toEqual([100])
  })

  test('change the medium of a running machine, and grow its disk', async () => {
    await mkdir(join(dir, 'images'))
    const disk = join(dir, 'images/vm-100-disk-0.qcow2')
    execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', disk, '8M'])
    const iso = join(dir, 'seed.iso')
    await writeFile(iso, Buffer.alloc(65536))
    const drives = [
      { slot: 'scsi0', media: 'disk' as const, path: disk, options: { iothread: '1' } },
      { slot: 'ide2', media: 'cdrom' as const, options: {} },
    ]
    await machines.start(diskless(100, { drives, scsihw: 'virtio-scsi-single' }), quiet)
    await machines.changeMedium(100, 'ide2', iso)
    expect(await machines.monitor(100, 'info block')).toContain(iso)
    await machines.changeMedium(100, 'ide2', undefined)
    expect(await machines.monitor(100, 'info block')).not.toContain(iso)
    await machines.resizeDrive(100, 'scsi0', 16 * 2 ** 20)
    await machines.snapshotDrive(100, 'scsi0', 'one')
    await machines.stop(100)
    const info = JSON.parse(execFileSync('qemu-img', ['info', '--output=json', disk]).toString())
    expect(info).toMatchObject({ 'virtual-size': 16 * 2 ** 20, snapshots: [{ name: 'one' }] })
  })

  test('OVMF speaks on the serial console from the start of the boot', async () => {
    const log: string[] = []
    await machines.start(diskless(100, { bios: 'ovmf', memory: 128 }), (line) => log.push(line))
    expect(log).toEqual(['WARN: no efidisk configured! Using temporary efivars disk.'])
    await until(async () => (await machines.consoleLog(100)).includes('BdsDxe'))
  })
})
