import { copyFile, mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import type { Duplex } from 'node:stream'
import { setTimeout as delay } from 'node:timers/promises'
import { execa } from 'execa'
import { Turns } from '../core/turns.ts'
import type { Accelerator } from './accelerator.ts'
import { firmware } from './firmware.ts'
import { flush } from './flush.ts'
import { AGENT_SILENT, askAgent } from './guest-agent.ts'
import { clear, type MachineFiles, machineFiles } from './machine-files.ts'
import { machineStatus, STOPPED } from './machine-status.ts'
import type { LabNames } from './names.ts'
import { endProcess, gone, processOf } from './process.ts'
import { qemuCommand } from './qemu-command.ts'
import { Qmp } from './qmp.ts'
import { connectConsole, tail } from './serial-console.ts'
import type { Log, MachineSpec, MachineStatus, Machines } from './world.ts'

export interface MachinesOptions {
  /** the lab's folder: serial console logs are kept there */
  dir: string
  names: LabNames
  accelerator: Accelerator
  /** puts a machine's tap device on the bridge that its clients know as vmbr0 */
  attach(tap: string, bridge: string): Promise<void>
  /** a machine has ended, on whatever grounds */
  onEnd?: (vmid: number) => void
}

interface Running {
  pid: number
  spec: MachineSpec
  qmp: Qmp
  /** resolves when its process has gone and its remains are removed */
  ended: Promise<void>
}

/** Seconds for QEMU to write everything out and leave after `quit`. */
const QUIT_SECONDS = 60

/** Seconds for a guest-agent command to answer, as in Proxmox. */
const AGENT_SECONDS = 60

/**
 * Virtual machines as detached QEMU processes. What is known of them lies in files (pid, sockets, specification),
 * so that they outlive the daemon that started them, and the next one takes them over.
 */
export class QemuMachines implements Machines {
  readonly #options: MachinesOptions
  readonly #running = new Map<number, Running>()
  readonly #starts = new Map<number, Turns>()
  /** QEMU serves one client of an agent at a time */
  readonly #agents = new Map<number, Turns>()

  #letGo = false

  constructor(options: MachinesOptions) {
    this.#options = options
  }

  /** Takes over what an earlier daemon on this folder has left running, and removes the remains of what has ended. */
  async open(): Promise<void> {
    const { runtime } = this.#options.names
    await mkdir(runtime, { recursive: true, mode: 0o700 })
    for (const entry of await readdir(runtime)) {
      const vmid = Number(/^(\d+)\.json$/.exec(entry)?.[1])
      if (!Number.isInteger(vmid)) continue
      const files = this.#files(vmid)
      const pid = await processOf(files.pid, files.pid)
      const spec = JSON.parse(await readFile(this.#files(vmid).spec, 'utf8')) as MachineSpec
      try {
        if (pid === undefined) throw new Error('it has ended')
        const { qmp } = await this.#adopt(spec, pid)
        const { status } = await qmp.command<{ status: string }>('query-status')
        if (status === 'prelaunch') throw new Error('its start was never completed')
        await this.#connect(spec)
      } catch {
        if (pid !== undefined) await endProcess(pid, files.pid, QUIT_SECONDS)
        await clear(this.#files(vmid))
      }
    }
  }

  /** Lets go of the machines without ending them. */
  close(): void {
    this.#letGo = true
    for (const { qmp } of this.#running.values()) qmp.close()
  }

  start(spec: MachineSpec, log: Log): Promise<void> {
    return this.#turns(this.#starts, spec.vmid).take(() => this.#start(spec, log))
  }

  async #start(spec: MachineSpec, log: Log): Promise<void> {
    const { vmid } = spec
    if (this.#running.has(vmid)) throw new Error(`VM ${vmid} already running`)
    const { names, accelerator } = this.#options
    const files = this.#files(vmid)
    const tap = (nic: { slot: string }) => names.tap(vmid, nic.slot)
    await mkdir(dirname(files.serialLog), { recursive: true })
    for (const nic of spec.nics) {
      if (nic.options.tag)
        log(`WARN: ${nic.slot}: the lab has no VLANs, tag ${nic.options.tag} has no effect`)
    }
    if (spec.bios === 'ovmf' && !spec.drives.some(({ slot }) => slot === 'efidisk0')) {
      log('WARN: no efidisk configured! Using temporary efivars disk.')
      await copyFile(firmware({}).vars, files.temporaryVars)
    }
    await writeFile(this.#files(vmid).spec, JSON.stringify(spec), { mode: 0o600 })
    try {
      await this.#launch(qemuCommand(spec, { accelerator, files, tap }), log)
      const pid = await processOf(files.pid, files.pid)
      if (pid === undefined) throw new Error('start failed: QEMU ended at once')
      const { qmp } = await this.#adopt(spec, pid)
      await this.#connect(spec)
      for (const nic of spec.nics) {
        if (nic.options.link_down === '1') await qmp.command('set_link', { name: nic.slot, up: false })
      }
      await qmp.command('cont')
    } catch (error) {
      const pid = await processOf(files.pid, files.pid)
      if (pid !== undefined) await endProcess(pid, files.pid, QUIT_SECONDS)
      await clear(this.#files(vmid))
      throw error
    }
  }

  async #connect({ vmid, nics }: MachineSpec): Promise<void> {
    const { names, attach } = this.#options
    for (const { slot, bridge } of nics) await attach(names.tap(vmid, slot), bridge)
  }

  async #launch(args: string[], log: Log): Promise<void> {
    const result = await execa('qemu-system-x86_64', args, { reject: false, stdin: 'ignore' })
    for (const line of result.stderr.split('\n'))
      if (line !== '') log(line.replace(/^qemu-system-x86_64: /, 'kvm: '))
    if (result.failed)
      throw new Error(`start failed: QEMU exited with code ${result.exitCode ?? result.signal}`)
  }

  async #adopt(spec: MachineSpec, pid: number): Promise<Running> {
    const { vmid } = spec
    const files = this.#files(vmid)
    const qmp = await Qmp.connect(files.qmp)
    const ended = qmp.closed.then(async () => {
      // The connection also closes when this daemon lets go; then the machine stays as it is.
      if (this.#letGo) return
      if (!(await gone(pid, files.pid, QUIT_SECONDS))) await endProcess(pid, files.pid, QUIT_SECONDS)
      this.#running.delete(vmid)
      await clear(this.#files(vmid))
      void flush(spec)
      this.#options.onEnd?.(vmid)
    })
    const running = { pid, spec, qmp, ended }
    this.#running.set(vmid, running)
    return running
  }

  async stop(vmid: number): Promise<void> {
    const running = this.#running.get(vmid)
    if (running === undefined) return
    await running.qmp.command('quit').catch(() => undefined)
    // `quit` is heard even by a stopped guest; a QEMU that hangs is killed.
    const { pid, ended } = running
    const mark = this.#files(vmid).pid
    if (!(await gone(pid, mark, QUIT_SECONDS))) await endProcess(pid, mark, QUIT_SECONDS)
    await ended
  }

  async reset(vmid: number): Promise<void> {
    await this.#of(vmid).qmp.command('system_reset')
  }

  async shutdown(vmid: number, seconds: number): Promise<void> {
    const running = this.#running.get(vmid)
    if (running === undefined) return
    const over = new AbortController()
    const late = delay(seconds * 1000, 'late' as const, { signal: over.signal }).catch(() => 'late' as const)
    const asked = running.spec.agent
      ? this.#askToPowerDown(vmid, over.signal)
      : running.qmp.command('system_powerdown')
    asked.catch(() => undefined)
    try {
      if ((await Promise.race([running.ended, late])) === 'late')
        throw new Error('VM quit/powerdown failed - got timeout')
    } finally {
      over.abort()
    }
  }

  /** The agent may come up while we wait. It does not answer this command. */
  async #askToPowerDown(vmid: number, signal: AbortSignal): Promise<void> {
    while (!signal.aborted && this.#running.has(vmid)) {
      try {
        await this.agent(vmid, 'guest-shutdown', { mode: 'powerdown' })
        return
      } catch {
        await delay(250)
      }
    }
  }

  async status(vmid: number): Promise<MachineStatus> {
    const running = this.#running.get(vmid)
    if (running === undefined) return STOPPED
    const { pid, qmp, spec } = running
    try {
      return await machineStatus(
        pid,
        qmp,
        spec.nics.map(({ slot }) => this.#options.names.tap(vmid, slot)),
      )
    } catch (error) {
      // It ended while we asked.
      if (qmp.isClosed) return STOPPED
      throw error
    }
  }

  async changeMedium(vmid: number, slot: string, path: string | undefined): Promise<void> {
    const { qmp } = this.#of(vmid)
    if (path === undefined) await qmp.command('eject', { id: slot, force: true })
    else await qmp.command('blockdev-change-medium', { id: slot, filename: path, format: 'raw', force: true })
  }

  async resizeDrive(vmid: number, slot: string, size: number): Promise<void> {
    await this.#of(vmid).qmp.command('block_resize', { device: `drive-${slot}`, size })
  }

  async snapshotDrive(vmid: number, slot: string, name: string): Promise<void> {
    await this.#of(vmid).qmp.command(
      'blockdev-snapshot-internal-sync',
      { device: `drive-${slot}`, name },
      600,
    )
  }

  async deleteDriveSnapshot(vmid: number, slot: string, name: string): Promise<void> {
    await this.#of(vmid).qmp.command(
      'blockdev-snapshot-delete-internal-sync',
      { device: `drive-${slot}`, name },
      600,
    )
  }

  async agent(vmid: number, command: string, args?: Record<string, unknown>): Promise<unknown> {
    const { qmp, spec } = this.#of(vmid)
    if (!spec.agent) throw new Error('No QEMU guest agent configured')
    // QEMU knows whether the agent has its end of the port open: no need to wait for an answer that cannot come.
    const devices = await qmp.command<{ label: string; 'frontend-open': boolean }[]>('query-chardev')
    if (!devices.find(({ label }) => label === 'qga0')?.['frontend-open']) throw new Error(AGENT_SILENT)
    return this.#turns(this.#agents, vmid).take(() =>
      askAgent(this.#files(vmid).agent, command, args, AGENT_SECONDS),
    )
  }

  async monitor(vmid: number, command: string): Promise<string> {
    return this.#of(vmid).qmp.command<string>('human-monitor-command', { 'command-line': command })
  }

  async consoleLog(vmid: number, bytes?: number): Promise<string> {
    return tail(this.#files(vmid).serialLog, bytes)
  }

  async console(vmid: number): Promise<Duplex> {
    if (!this.#of(vmid).spec.serial) throw new Error('unable to find a serial interface')
    return connectConsole(this.#files(vmid).serial)
  }

  async running(): Promise<number[]> {
    return [...this.#running.keys()].sort((a, b) => a - b)
  }

  async stopAll(): Promise<void> {
    await Promise.all([...this.#running.keys()].map((vmid) => this.stop(vmid)))
  }

  #turns(all: Map<number, Turns>, vmid: number): Turns {
    const turns = all.get(vmid) ?? new Turns()
    all.set(vmid, turns)
    return turns
  }

  #files(vmid: number): MachineFiles {
    return machineFiles(this.#options.dir, this.#options.names, vmid)
  }

  #of(vmid: number): Running {
    const running = this.#running.get(vmid)
    if (running === undefined) throw new Error(`VM ${vmid} is not running`)
    return running
  }
}
