import { readFile } from 'node:fs/promises'
import { setTimeout as delay } from 'node:timers/promises'

/** Clock ticks per second in /proc, which Linux has fixed for user space (USER_HZ). */
const TICKS = 100

/**
 * The process that a pid file names, provided that its command line has `mark` as one of its arguments: a pid may
 * have gone to a stranger meanwhile.
 */
export async function processOf(pidFile: string, mark: string): Promise<number | undefined> {
  const pid = Number(await readFile(pidFile, 'utf8').catch(() => ''))
  if (!Number.isInteger(pid) || pid <= 1) return undefined
  return (await isProcess(pid, mark)) ? pid : undefined
}

/**
 * A process that is ending has no command line any more, nor has a zombie.
 * @throws where /proc cannot be read at this moment (EMFILE): that says nothing about the process
 */
export async function isProcess(pid: number, mark: string): Promise<boolean> {
  const command = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT' || error.code === 'ESRCH') return ''
    throw error
  })
  return command.split('\0').includes(mark)
}

/** Seconds since the process began, and the bytes of memory it really has. */
export async function usage(pid: number): Promise<{ uptime: number; resident: number }> {
  const [stat, statm, uptime] = await Promise.all(
    [`/proc/${pid}/stat`, `/proc/${pid}/statm`, '/proc/uptime'].map((path) => readFile(path, 'utf8')),
  )
  // Fields are counted from behind the name, which may have spaces: proc(5), field 22 is the start time.
  const started = Number(stat?.slice(stat.lastIndexOf(')') + 2).split(' ')[19]) / TICKS
  return {
    uptime: Math.max(0, Math.floor(Number(uptime?.split(' ')[0]) - started)),
    resident: Number(statm?.split(' ')[1]) * 4096,
  }
}

/** Waits until the process has gone. @returns false when it is still there after `seconds` */
export async function gone(pid: number, mark: string, seconds: number): Promise<boolean> {
  const end = performance.now() + seconds * 1000
  while ((await isProcess(pid, mark).catch(() => true)) || (await isEnding(pid))) {
    if (performance.now() > end) return false
    await delay(10)
  }
  return true
}

/** The kernel takes a process's memory (and command line) first, and closes its files and sockets a little later. */
async function isEnding(pid: number): Promise<boolean> {
  const read = (name: string) => readFile(`/proc/${pid}/${name}`, 'utf8').catch(() => undefined)
  const [command, stat] = [await read('cmdline'), await read('stat')]
  return command === '' && stat !== undefined && !/[ZX]/.test(stat.charAt(stat.lastIndexOf(')') + 2))
}

/** Ends a process of ours: SIGTERM, and SIGKILL when that is not heard. */
export async function endProcess(pid: number, mark: string, seconds: number): Promise<void> {
  for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
    if (await gone(pid, mark, 0)) return
    try {
      process.kill(pid, signal)
    } catch {
      return
    }
    if (await gone(pid, mark, seconds)) return
  }
}
