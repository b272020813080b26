import { appendFile, mkdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { parameterError, taskMessageOf } from './errors.ts'

/**
 * Proxmox's tasks: work with a UPID, a log and an exit status, that goes on after its call was answered. They run
 * in this process; their history and logs survive it.
 */
export interface TaskRecord {
  upid: string
  node: string
  pid: number
  pstart: number
  starttime: number
  type: string
  id: string
  /** user@realm or user@realm!token */
  user: string
  endtime?: number
  exitstatus?: string
}

export interface TaskContext {
  log: (line: string) => void
  /** counts the warning, which turns `OK` into `WARNINGS: n` */
  warn: (line: string) => void
  /** aborted by DELETE of the task */
  signal: AbortSignal
}

/** What work may say in the log of its task. */
export type Say = Pick<TaskContext, 'log' | 'warn'>

/** The work ends here, before its first word: its process is no more. */
export class WorkerDied extends Error {}

interface Running {
  record: TaskRecord
  controller: AbortController
  /** only then it can be interrupted: the work alone knows what was reserved for it */
  begun: boolean
  stopped: boolean
  done: Promise<void>
}

/** What is said of a task whose daemon died before it ended. */
const LOST = 'unexpected status'
/** … and of one whose log is empty */
const SILENT = 'unable to read tail (got 0 bytes)'
const INTERRUPT = new Error('received interrupt')
/** tasks that are kept in the list */
const KEPT = 1000

export class Tasks {
  readonly #folder: string
  readonly #running = new Map<string, Running>()
  readonly #logs = new Map<string, string[]>()
  #history: TaskRecord[] = []
  #pid = (process.pid & 0xffff) << 8

  constructor(folder: string) {
    this.#folder = folder
  }

  /** Reads the history of earlier daemons on this folder. */
  async load(): Promise<void> {
    await mkdir(this.#folder, { recursive: true })
    const text = await readFile(join(this.#folder, 'index'), 'utf8').catch(() => '')
    const byUpid = new Map<string, TaskRecord>()
    for (const line of text.split('\n')) {
      if (line === '') continue
      const record = JSON.parse(line) as TaskRecord
      byUpid.set(record.upid, record)
    }
    this.#history = [...byUpid.values()].slice(-KEPT).reverse()
    for (const record of this.#history) {
      record.exitstatus ??= LOST
      record.endtime ??= record.starttime
    }
  }

  get active(): number {
    return this.#running.size
  }

  /** Begins the work and gives its UPID at once. `node`: where it is done */
  start(
    { node, type, id, user }: Pick<TaskRecord, 'node' | 'type' | 'id' | 'user'>,
    work: (task: TaskContext) => Promise<void>,
  ): string {
    const pid = ++this.#pid
    const starttime = Math.floor(Date.now() / 1000)
    const pstart = Math.floor(process.uptime() * 100)
    const hex = (value: number) => value.toString(16).toUpperCase().padStart(8, '0')
    const safeId = id.replace(
      /[^a-zA-Z0-9_.\-@]/g,
      (c) => `\\x${c.charCodeAt(0).toString(16).padStart(2, '0')}`,
    )
    const upid = `UPID:${node}:${hex(pid)}:${hex(pstart)}:${hex(starttime)}:${type}:${safeId}:${user}:`
    const record: TaskRecord = { upid, node, pid, pstart, starttime, type, id, user }
    const controller = new AbortController()
    const running: Running = { record, controller, begun: false, stopped: false, done: Promise.resolve() }
    this.#running.set(upid, running)
    this.#logs.set(upid, [])
    this.#history.unshift(record)
    this.#history.length = Math.min(this.#history.length, KEPT)
    running.done = this.#run(running, work)
    return upid
  }

  async #run(running: Running, work: (task: TaskContext) => Promise<void>): Promise<void> {
    const { record, controller } = running
    const lines = this.#logs.get(record.upid) as string[]
    let warnings = 0
    const log = (text: string) => {
      for (const line of text.replace(/\n$/, '').split('\n')) lines.push(line)
    }
    const warn = (line: string) => {
      warnings++
      log(`WARN: ${line}`)
    }
    await appendFile(join(this.#folder, 'index'), `${JSON.stringify(record)}\n`)
    let exitstatus: string
    try {
      const working = work({ log, warn, signal: controller.signal })
      running.begun = true
      if (running.stopped) controller.abort(INTERRUPT)
      await working
      exitstatus = warnings > 0 ? `WARNINGS: ${warnings}` : 'OK'
      log(warnings > 0 ? `TASK WARNINGS: ${warnings}` : 'TASK OK')
    } catch (error) {
      const died = error instanceof WorkerDied
      // One line: the status is one line of Proxmox's task index.
      exitstatus = died ? SILENT : taskMessageOf(error).trim().replaceAll('\n', ' ')
      if (!died) log(`TASK ERROR: ${exitstatus}`)
    }
    await appendFile(this.#logFile(record.upid), lines.map((line) => `${line}\n`).join(''))
    record.endtime = Math.floor(Date.now() / 1000)
    record.exitstatus = exitstatus
    await appendFile(join(this.#folder, 'index'), `${JSON.stringify(record)}\n`)
    this.#running.delete(record.upid)
    this.#logs.delete(record.upid)
  }

  #logFile(upid: string): string {
    return join(this.#folder, encodeURIComponent(upid))
  }

  /** @throws ApiError 400, where there is no such task: on that node, if one is given */
  find(upid: string, node?: string): TaskRecord {
    if (!/^UPID:[^:]+:[0-9A-F]{8}:[0-9A-F]{8,9}:[0-9A-F]{8}:[^:]+:[^:]*:[^:]+:$/.test(upid)) {
      throw parameterError({ upid: 'unable to parse worker upid' })
    }
    const record = this.#history.find((task) => task.upid === upid)
    if (!record || (node !== undefined && record.node !== node))
      throw parameterError({ upid: 'no such task' })
    return record
  }

  isRunning(upid: string): boolean {
    return this.#running.has(upid)
  }

  /** All lines so far; undefined for an unknown task. */
  async log(upid: string): Promise<string[] | undefined> {
    const live = this.#logs.get(upid)
    if (live) return live
    const text = await readFile(this.#logFile(upid), 'utf8').catch(() => undefined)
    return text === '' ? [] : text?.replace(/\n$/, '').split('\n')
  }

  /** Newest first. */
  list(): readonly TaskRecord[] {
    return this.#history
  }

  /** Resolves when the task has ended, or after `seconds`. */
  async ended(upid: string, seconds?: number): Promise<void> {
    const done = this.#running.get(upid)?.done
    if (!done) return
    if (seconds === undefined) return done
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, seconds * 1000)
    })
    await Promise.race([done, late])
    clearTimeout(timer)
  }

  /** Interrupts the task, as `DELETE /nodes/{node}/tasks/{upid}` does. */
  stop(upid: string): void {
    const running = this.#running.get(upid)
    if (running !== undefined) interrupt(running)
  }

  /** Interrupts all that run and waits for their ends. */
  async stopAll(): Promise<void> {
    const all = [...this.#running.values()]
    for (const running of all) interrupt(running)
    await Promise.all(all.map(({ done }) => done))
  }
}

function interrupt(running: Running): void {
  running.stopped = true
  if (running.begun) running.controller.abort(INTERRUPT)
}
