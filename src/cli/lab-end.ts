import { type FSWatcher, watch } from 'node:fs'
import { resolve } from 'node:path'
import { asImagebuildError, ImagebuildError } from '../core/errors.ts'
import { needLab } from '../lab/needed.ts'
import { isProcess } from '../lab/process.ts'
import { readStopped, type Stopped } from '../lab/stopped.ts'

/**
 * Whoever works on the lab keeps it from ending by itself, and learns that it was stopped: its folder says so before a
 * connection breaks. Everything above the connection goes on taking the lab for a Proxmox, whose work was aborted with a reason.
 */

/** Milliseconds between two looks, where the file system tells of no change; and in which the lab is told that it is needed. */
const LOOK_EVERY = 1000

/** The lab that something was done on is no more. Its words have room for what was done: see `during`. */
export class LabEnded extends ImagebuildError {
  /** The same, with what was under way. */
  during(work: string): ImagebuildError {
    return this.with({ what: `${this.what} while ${work}` })
  }
}

export interface LabWatch extends Disposable {
  /** aborts with the given one, or with a LabEnded */
  readonly signal: AbortSignal
  /** aborts with a LabEnded */
  readonly ended: AbortSignal
  /** what has really failed, where a connection was lost because the lab has ended */
  explain(thrown: unknown): Promise<unknown>
}

/** @param pid the lab's daemon */
export function watchLab(folder: string, pid: number, parent: AbortSignal): LabWatch {
  const dir = resolve(folder)
  const ended = new AbortController()
  const look = async () => {
    if (ended.signal.aborted) return
    const why = await readStopped(dir, pid)
    if (why !== undefined || !(await isProcess(pid, dir))) ended.abort(labEnded(dir, pid, why))
  }
  // What cannot be read now can be a moment later.
  const tryLook = () => void look().catch(() => undefined)
  const timer = setInterval(() => {
    tryLook()
    // One that has ended has no such file, or does not look at it any more.
    void needLab(dir).catch(() => undefined)
  }, LOOK_EVERY)
  timer.unref()
  const watcher = watchFolder(dir, tryLook)
  return {
    signal: AbortSignal.any([parent, ended.signal]),
    ended: ended.signal,
    explain: async (thrown) => {
      if (asImagebuildError(thrown).code === 'unreachable') await look().catch(() => undefined)
      return ended.signal.aborted ? ended.signal.reason : thrown
    },
    [Symbol.dispose]: () => {
      clearInterval(timer)
      watcher?.close()
    },
  }
}

/** Undefined where the kernel has no watch left to give (ENOSPC, EMFILE): the timer will do. */
function watchFolder(dir: string, onChange: () => void): FSWatcher | undefined {
  try {
    const watcher = watch(dir, { persistent: false }, onChange)
    return watcher.on('error', () => watcher.close())
  } catch {
    return undefined
  }
}

function labEnded(dir: string, pid: number, stopped: Stopped | undefined): LabEnded {
  const isStop = stopped?.how === 'lab stop'
  const { at, how, by } = stopped ?? {}
  return new LabEnded({
    code: 'unreachable',
    what: `the lab in ${dir} ${isStop ? 'was stopped (lab stop)' : 'ended'}`,
    why: isStop
      ? `process ${by} stopped it at ${at}`
      : stopped === undefined
        ? `its process ${pid} was killed`
        : `its process ${pid} ended at ${at}: ${how}`,
    next: `run again: that starts the lab, and removes what was left${isStop ? '' : `; its log is ${dir}/daemon.log`}`,
  })
}
