import { readdir, readFile } from 'node:fs/promises'

/**
 * Stops a process of this machine that has not begun yet, as soon as it is there, until the function that this gives
 * is called.
 * @param wanted judges the command line, whose words end with NUL
 */
export async function holdProcess(wanted: (command: string) => boolean): Promise<() => void> {
  const before = new Set(await readdir('/proc'))
  for (;;) {
    for (const pid of await readdir('/proc')) {
      if (before.has(pid)) continue
      if (!wanted(await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => ''))) continue
      process.kill(Number(pid), 'SIGSTOP')
      return () => process.kill(Number(pid), 'SIGCONT')
    }
  }
}
