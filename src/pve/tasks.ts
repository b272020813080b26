import { ImagebuildError } from '../core/errors.ts'
import { pauses } from '../core/pauses.ts'
import { poll, withDeadline } from '../core/scope.ts'
import type { TaskLine, TaskStatus } from './answers.ts'
import type { Engine } from './engine.ts'
import { PveError, PveTaskError } from './errors.ts'

/** The parts of `UPID:node:pid:pstart:starttime:type:id:user:`. */
export interface Upid {
  upid: string
  node: string
  /** what it does: `qmcreate`, `imgcopy`, … */
  type: string
  /** the guest's number, a volume, or empty */
  id: string
  /** who started it: `user@realm`, or `user@realm!tokenid` */
  user: string
}

export interface TaskResult extends Upid {
  /** `OK`, or `WARNINGS: n` */
  exitstatus: string
  warnings: number
}

export interface WaitOptions {
  signal: AbortSignal
  /** seconds until the wait is given up; the task itself runs on unless `stopOnAbort` */
  seconds: number
  /** each line of the task's log, as soon as it is seen */
  onLog?: (line: string) => void
  /** ask Proxmox to stop the task when the signal aborts or the time is over */
  stopOnAbort?: boolean
}

/** Milliseconds between two looks at a task, at first and at most. */
const POLL = { first: 100, max: 1000 }

/** Lines of a failed task that an error quotes. */
const TAIL_LINES = 20

/** Lines asked for at once. */
const PAGE_LINES = 500

/** Seconds that Proxmox may be out of reach while a task runs: it runs on without us. */
const OUTAGE_SECONDS = 60

/** Seconds that stopping a task on the way out may take. */
const STOP_SECONDS = 10

/** @throws TypeError where the text is no UPID: some calls give null instead of one */
export function parseUpid(text: unknown): Upid {
  const parts = /^UPID:([^:\s]+):[0-9A-F]{8}:[0-9A-F]{8,9}:[0-9A-F]{8}:([^:\s]+):([^:\s]*):([^:\s]+):$/i.exec(
    String(text),
  )
  if (!parts) throw new TypeError(`${text} is no UPID`)
  const [upid, node, type, id, user] = parts as unknown as [string, string, string, string, string]
  return { upid, node, type, id, user }
}

/**
 * Waits until a task has ended. Warnings are success.
 * @throws PveTaskError where it failed, with its last lines; ImagebuildError `build_failed` when the time is over
 */
export async function waitTask(engine: Engine, text: string, options: WaitOptions): Promise<TaskResult> {
  const task = parseUpid(text)
  const path = `/nodes/${task.node}/tasks/${task.upid}`
  using signal = withDeadline(options.signal, options.seconds, `the task ${task.type}`)
  const log = new TaskLog(engine, path, options.onLog)
  let outageSince: number | undefined
  try {
    const exitstatus = await poll(
      async () => {
        try {
          const { data } = await engine.request('GET', `${path}/status`, {}, { signal })
          const status = data as TaskStatus
          // Status before log: of a task that has ended, the log is whole.
          if (options.onLog) await log.read(signal)
          outageSince = undefined
          return status.status === 'stopped' ? (status.exitstatus ?? 'it ended without a status') : undefined
        } catch (error) {
          if (!(error instanceof PveError && error.passing)) throw error
          outageSince ??= pauses.running()
          if (pauses.running() - outageSince > OUTAGE_SECONDS * 1000) throw error
          return undefined
        }
      },
      { ...POLL, signal },
    )
    const warnings = /^WARNINGS: (\d+)$/.exec(exitstatus)
    if (exitstatus === 'OK' || warnings) {
      return { ...task, exitstatus, warnings: Number(warnings?.[1] ?? 0) }
    }
    // The log makes the error better; its absence must not hide the error.
    await log.read(signal).catch(() => {})
    throw new PveTaskError({ ...task, exitstatus, output: log.tail })
  } catch (error) {
    if (!signal.aborted) throw error
    if (options.stopOnAbort) await stopTask(engine, task)
    options.signal.throwIfAborted()
    await log.read(AbortSignal.timeout(STOP_SECONDS * 1000)).catch(() => {})
    throw new ImagebuildError({
      code: 'build_failed',
      what: `the Proxmox task ${task.type}${task.id && ` of ${task.id}`} took longer than ${options.seconds} s`,
      why: options.stopOnAbort ? 'it was told to stop' : `it may still run on ${task.node}`,
      output: log.tail,
      next: `look at it on the node: pvenode task log ${task.upid}`,
    })
  }
}

async function stopTask(engine: Engine, task: Upid): Promise<void> {
  const signal = AbortSignal.timeout(STOP_SECONDS * 1000)
  const path = `/nodes/${task.node}/tasks/${task.upid}`
  // It may have ended on its own, or not be ours to stop: the caller is on its way out with a better error.
  await engine.request('DELETE', path, {}, { signal, retries: 0 }).catch(() => {})
}

/** The lines of one task, read on from where the last look ended. */
class TaskLog {
  readonly tail: string[] = []
  readonly #engine: Engine
  readonly #path: string
  readonly #onLine: ((line: string) => void) | undefined
  #seen = 0

  constructor(engine: Engine, path: string, onLine: ((line: string) => void) | undefined) {
    this.#engine = engine
    this.#path = path
    this.#onLine = onLine
  }

  async read(signal: AbortSignal): Promise<void> {
    for (;;) {
      const page = { start: this.#seen, limit: PAGE_LINES }
      const { data } = await this.#engine.request('GET', `${this.#path}/log`, page, { signal })
      const lines = Array.isArray(data) ? (data as TaskLine[]) : []
      for (const { n, t } of lines) {
        // An empty log is a single line that is not in it.
        if (n <= this.#seen || (n === 1 && t === 'no content')) continue
        this.#seen = n
        this.tail.push(t)
        if (this.tail.length > TAIL_LINES) this.tail.shift()
        this.#onLine?.(t)
      }
      if (lines.length < PAGE_LINES) return
    }
  }
}
