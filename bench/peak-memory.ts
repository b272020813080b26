import { readFile } from 'node:fs/promises'

/** Milliseconds between two looks. The kernel keeps each process's peak, so only its end must not be missed. */
const LOOK_EVERY = 50

/**
 * Watches the peak of resident memory of a process and all that it starts, as Linux keeps it (VmHWM in
 * /proc/<pid>/status). The peaks of processes that live at the same time are added up, although they need not have
 * come at the same time: the figure is too high rather than too low.
 */
export class PeakMemory implements Disposable {
  /** bytes */
  peak = 0
  readonly #pid: number
  readonly #timer: NodeJS.Timeout

  constructor(pid: number) {
    this.#pid = pid
    this.#timer = setInterval(() => void this.look(), LOOK_EVERY)
  }

  async look(): Promise<number> {
    this.peak = Math.max(this.peak, await treePeak(this.#pid))
    return this.peak
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer)
  }
}

async function treePeak(pid: number): Promise<number> {
  const [status, children] = await Promise.all([
    readFile(`/proc/${pid}/status`, 'utf8').catch(() => ''),
    readFile(`/proc/${pid}/task/${pid}/children`, 'utf8').catch(() => ''),
  ])
  const own = Number(/^VmHWM:\s*(\d+) kB$/m.exec(status)?.[1] ?? 0) * 1024
  const below = await Promise.all(children.split(' ').filter(Boolean).map(Number).map(treePeak))
  return below.reduce((sum, bytes) => sum + bytes, own)
}
