import { chmod, mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import type { Duplex } from 'node:stream'
import { setTimeout as delay } from 'node:timers/promises'
import { execa } from 'execa'
import { makeFolder } from '../../core/make-folder.ts'
import { Turns } from '../../core/turns.ts'
import type { LabNames } from '../names.ts'
import { tail } from '../serial-console.ts'
import type {
  ContainerInterface,
  ContainerSpec,
  ContainerStatus,
  ContainerSystem,
  Containers,
  Log,
} from '../world.ts'
import { removeGroups } from './cgroups.ts'
import { type ContainerConsole, openConsole } from './console.ts'
import { type ContainerFiles, containerFiles } from './container-files.ts'
import { containerInterfaces, containerStatus, STOPPED } from './container-status.ts'
import { createContents, dumpContents, prepareClone, prepareStart, restoreContents } from './contents.ts'
import { growFileSystem, growMounted, hasRoomToGrow } from './file-system.ts'
import { whileFrozen } from './freeze.ts'
import { lxc } from './lxc-command.ts'
import { lxcConfig, seccompProfile } from './lxc-config.ts'
import { Monitor } from './monitor.ts'
import { mounting, released } from './mounted-root.ts'

export interface ContainersOptions {
  /** the lab's folder: console logs are kept there */
  dir: string
  names: LabNames
  /** the Linux bridge behind what clients know as vmbr0; throws for others */
  bridge(name: string): string
  /** DNS server of containers whose configuration names none */
  nameserver: string
  /** a container has ended, on whatever grounds */
  onEnd?: (vmid: number) => void
}

interface Running {
  spec: ContainerSpec
  monitor: Monitor
  /** resolves when it has ended and its remains are removed */
  gone: Promise<void>
  /** resolves when what follows that is done */
  ended: Promise<void>
}

/** Seconds for LXC to end a container by force. */
const STOP_SECONDS = 30

/** Seconds after which a container that does not shut down is asked again: one that just boots may not listen yet. */
const ASK_AGAIN = 2

/**
 * Containers by Debian's LXC. As with machines, what is known of a running one lies in files, so that it outlives
 * the daemon that started it, and the next one takes it over.
 */
export class LxcContainers implements Containers {
  readonly #options: ContainersOptions
  readonly #running = new Map<number, Running>()
  readonly #consoles = new Set<ContainerConsole>()
  readonly #starts = new Turns()
  #afterEnd: (vmid: number) => Promise<void> = async () => {}

  constructor(options: ContainersOptions) {
    this.#options = options
  }

  /** Takes over what an earlier daemon on this folder has left running, and removes the remains of what has ended. */
  async open(): Promise<void> {
    const { names } = this.#options
    for (const name of await readdir(names.lxcPath).catch(() => [])) {
      const vmid = Number(/-(\d+)$/.exec(name)?.[1])
      if (!Number.isInteger(vmid) || name !== names.container(vmid)) continue
      const files = this.#files(vmid)
      const spec = await readFile(files.spec, 'utf8').catch(() => undefined)
      const monitor = await Monitor.find(names.lxcPath, name, files)
      if (monitor !== undefined && spec !== undefined) this.#adopt(JSON.parse(spec) as ContainerSpec, monitor)
      else await this.#clear(vmid)
    }
  }

  /** Lets go of the containers without ending them. */
  close(): void {
    for (const { monitor } of this.#running.values()) monitor.letGo()
  }

  async create(
    spec: ContainerSpec,
    from: { archive: string; password?: string; sshPublicKeys?: string },
    log: Log,
    signal?: AbortSignal,
  ): Promise<ContainerSystem> {
    return createContents(spec, from.archive, { ...from, nameserver: this.#options.nameserver }, log, signal)
  }

  async restore(spec: ContainerSpec, archive: string, log: Log, signal?: AbortSignal): Promise<void> {
    await restoreContents(spec, archive, log, signal)
  }

  async dump(spec: ContainerSpec, target: string, log: Log, signal?: AbortSignal): Promise<void> {
    await dumpContents(spec, target, log, signal)
  }

  afterClone(spec: ContainerSpec): Promise<ContainerSystem> {
    return prepareClone(spec)
  }

  async growRoot(spec: ContainerSpec, log: Log): Promise<void> {
    const running = this.#running.get(spec.vmid)
    if (running === undefined) await growFileSystem(spec.root, log)
    else await growMounted(spec.root, running.monitor.pid, log)
  }

  async frozen<T>(vmid: number, work: () => Promise<T>): Promise<T> {
    const running = this.#running.get(vmid)
    return running === undefined ? work() : whileFrozen(running.monitor.pid, work)
  }

  start(spec: ContainerSpec, log: Log): Promise<ContainerSystem> {
    return this.#starts.take(() => this.#start(spec, log))
  }

  async #start(spec: ContainerSpec, log: Log): Promise<ContainerSystem> {
    const { vmid } = spec
    if (this.#running.has(vmid)) throw new Error(`CT ${vmid} already running`)
    const { names, nameserver } = this.#options
    const files = this.#files(vmid)
    warnings(spec).forEach(log)
    await this.#clear(vmid)
    let system: ContainerSystem
    try {
      // The guests' root must get through, whatever the umask, and whoever has made it.
      await makeFolder(names.lxcPath, 0o711)
      await chmod(names.lxcPath, 0o711)
      await mkdir(files.folder, { mode: 0o700 })
      await mkdir(dirname(files.consoleLog), { recursive: true, mode: 0o700 })
      await rm(files.consoleLog, { force: true })
      await writeFile(files.config, lxcConfig(spec, { ...this.#options, files }), { mode: 0o600 })
      await writeFile(files.seccomp, seccompProfile(spec), { mode: 0o600 })
      await writeFile(files.spec, JSON.stringify(spec), { mode: 0o600 })
      if (await hasRoomToGrow(spec.root)) await growFileSystem(spec.root, log)
      system = await prepareStart(spec, nameserver)
      await this.#launch(spec, files, log)
      const monitor = await Monitor.find(names.lxcPath, names.container(vmid), files)
      if (monitor === undefined) throw new Error(`startup for container '${vmid}' failed`)
      this.#adopt(spec, monitor)
    } catch (error) {
      await (await Monitor.find(names.lxcPath, names.container(vmid), files))?.kill()
      await released(spec.root)
      await this.#clear(vmid)
      throw error
    }
    for (const { slot, options } of spec.nics) {
      if (options.link_down === '1') await execa('ip', ['link', 'set', names.tap(vmid, slot), 'down'])
    }
    return system
  }

  async #launch({ vmid, root }: ContainerSpec, files: ContainerFiles, log: Log): Promise<void> {
    const start = [...this.#lxc('lxc-start', vmid), '-d', '-p', files.pid, '-o', files.log, '-l', 'WARN']
    const [command = '', ...args] = mounting(root, 'noatime', start)
    const { failed, stderr } = await execa(command, args, {
      reject: false,
      stdin: 'ignore',
      stdout: 'ignore',
    })
    if (!failed) return
    const said = await readFile(files.log, 'utf8').catch(() => '')
    const errors = said.split('\n').filter((line) => line.includes(' ERROR '))
    for (const line of errors.length > 0 ? errors : stderr.split('\n')) if (line !== '') log(line)
    throw new Error(`startup for container '${vmid}' failed`)
  }

  #adopt(spec: ContainerSpec, monitor: Monitor): void {
    const { vmid } = spec
    const gone = monitor.ended.then(async () => {
      // We also stop watching when this daemon goes; then the container stays as it is.
      if (monitor.isLetGo) return
      await released(spec.root).catch(() => undefined)
      await this.#clear(vmid)
      this.#running.delete(vmid)
    })
    const ended = gone.then(async () => {
      if (monitor.isLetGo) return
      await this.#afterEnd(vmid)
      this.#options.onEnd?.(vmid)
    })
    this.#running.set(vmid, { spec, monitor, gone, ended })
  }

  afterEnd(work: (vmid: number) => Promise<void>): void {
    this.#afterEnd = work
  }

  async stop(vmid: number): Promise<void> {
    const running = this.#running.get(vmid)
    if (running === undefined) return
    const { monitor, gone, ended } = running
    const [command = '', ...args] = this.#lxc('lxc-stop', vmid)
    await execa(command, [...args, '--kill'], { reject: false, timeout: STOP_SECONDS * 1000 })
    const over = new AbortController()
    const late = delay(STOP_SECONDS * 1000, true, { signal: over.signal }).catch(() => false)
    if (await Promise.race([gone.then(() => false), late])) monitor.kill()
    over.abort()
    await ended
  }

  async shutdown(vmid: number, seconds: number): Promise<void> {
    const running = this.#running.get(vmid)
    if (running === undefined) return
    const end = performance.now() + seconds * 1000
    const [command = '', ...args] = this.#lxc('lxc-stop', vmid)
    for (let left = seconds; left > 0; left = (end - performance.now()) / 1000) {
      await execa(command, [...args, '--nokill', '--nowait'], { reject: false })
      const over = new AbortController()
      const late = delay(Math.min(left, ASK_AGAIN) * 1000, true, { signal: over.signal }).catch(() => false)
      const gone = await Promise.race([running.gone.then(() => true), late.then(() => false)])
      over.abort()
      if (gone) return running.ended
    }
    throw new Error('container did not stop')
  }

  async status(vmid: number): Promise<ContainerStatus> {
    const running = this.#running.get(vmid)
    if (running === undefined) return STOPPED
    const { names } = this.#options
    const veths = running.spec.nics.map(({ slot }) => names.tap(vmid, slot))
    try {
      return await containerStatus(names.container(vmid), running.monitor.pid, veths)
    } catch {
      // Its init ended while we asked.
      return this.#running.has(vmid) ? { ...STOPPED, running: true } : STOPPED
    }
  }

  async interfaces(vmid: number): Promise<ContainerInterface[]> {
    return containerInterfaces(this.#of(vmid).monitor.pid)
  }

  async consoleLog(vmid: number, bytes?: number): Promise<string> {
    return tail(this.#files(vmid).consoleLog, bytes)
  }

  async console(vmid: number): Promise<Duplex> {
    this.#of(vmid)
    const { names } = this.#options
    const console = openConsole(names.lxcPath, names.container(vmid))
    this.#consoles.add(console)
    void console.ended.then(() => this.#consoles.delete(console))
    return console.stream
  }

  async running(): Promise<number[]> {
    return [...this.#running.keys()].sort((a, b) => a - b)
  }

  /** Ends all; nothing of any container is left but its volume and its console's log. */
  async stopAll(): Promise<void> {
    const consoles = [...this.#consoles]
    for (const { stream } of consoles) stream.destroy()
    await Promise.all([
      ...consoles.map(({ ended }) => ended),
      ...[...this.#running.keys()].map((vmid) => this.stop(vmid)),
    ])
    await rm(this.#options.names.lxcPath, { recursive: true, force: true })
  }

  async #clear(vmid: number): Promise<void> {
    await removeGroups(this.#options.names.container(vmid))
    await rm(this.#files(vmid).folder, { recursive: true, force: true })
  }

  #lxc(program: `lxc-${string}`, vmid: number): string[] {
    const { names } = this.#options
    return lxc(program, '-P', names.lxcPath, '-n', names.container(vmid))
  }

  #files(vmid: number): ContainerFiles {
    return containerFiles(this.#options.dir, this.#options.names, vmid)
  }

  #of(vmid: number): Running {
    const running = this.#running.get(vmid)
    if (running === undefined) throw new Error(`CT ${vmid} not running`)
    return running
  }
}

/** What the configuration asks for and the lab does not have. */
function warnings({ nics, features }: ContainerSpec): string[] {
  return [
    ...nics
      .filter(({ options }) => options.tag)
      .map(({ slot, options }) => `WARN: ${slot}: the lab has no VLANs, tag ${options.tag} has no effect`),
    ...(features.mknod ? ['WARN: the lab makes no device nodes for containers, mknod has no effect'] : []),
  ]
}
