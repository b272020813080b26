import { readdir, readFile } from 'node:fs/promises'
import type { TestContext } from 'vitest'

/** A process of this machine. */
export interface Found {
  pid: number
  /** its words end with NUL */
  command: string
}

/**
 * Stops a process that has not begun yet, as soon as it is there, until the function that this gives is called, or the
 * test is over.
 * @param isWanted must tell it from everybody else's
 */
export async function holdProcess(
  { signal, onTestFinished }: TestContext,
  isWanted: (found: Found) => boolean | Promise<boolean>,
): Promise<() => void> {
  const before = new Set(await readdir('/proc'))
  for (;;) {
    signal.throwIfAborted()
    for (const pid of await readdir('/proc')) {
      if (before.has(pid)) continue
      const command = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')
      if (command === '' || !(await isWanted({ pid: Number(pid), command }))) continue
      if (!send('SIGSTOP', Number(pid))) continue
      const goOn = () => void send('SIGCONT', Number(pid))
      onTestFinished(goOn)
      return goOn
    }
  }
}

/** False where the process has ended. */
function send(signal: NodeJS.Signals, pid: number): boolean {
  try {
    return process.kill(pid, signal)
  } catch {
    return false
  }
}

/** Whether this process has started it, or one that it has started. */
export async function isDescendant({ pid }: Found): Promise<boolean> {
  let ancestor = pid
  while (ancestor > 1 && ancestor !== process.pid) ancestor = await parentOf(ancestor)
  return ancestor === process.pid
}

/** 0 where it has ended. Field 4 of /proc/<pid>/stat (proc(5)); the second may hold spaces and ends with the last `)`. */
async function parentOf(pid: number): Promise<number> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '')
  return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1] ?? 0)
}
