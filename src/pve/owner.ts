import { readFile } from 'node:fs/promises'
import { hostname } from 'node:os'
import type { Owner } from './marks.ts'

/** This process, as a note names it. */
export async function thisOwner(): Promise<Owner> {
  return {
    host: hostname(),
    boot: await bootId(),
    pid: process.pid,
    started: (await startTime(process.pid)) ?? '',
  }
}

/**
 * Whether the process that a note names has ended. `undefined`: it ran on another machine, so nobody here can
 * tell, and only its expiry counts.
 */
export async function hasEnded(owner: Owner): Promise<boolean | undefined> {
  if (owner.host !== hostname()) return undefined
  if (owner.boot !== (await bootId())) return owner.boot === '' ? undefined : true
  return (await startTime(owner.pid)) !== owner.started
}

async function bootId(): Promise<string> {
  return (await readFile('/proc/sys/kernel/random/boot_id', 'utf8').catch(() => '')).trim()
}

/** Field 22 of /proc/<pid>/stat (proc(5)); the second field may hold spaces and ends with the last `)`. */
async function startTime(pid: number): Promise<string | undefined> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => undefined)
  return stat?.slice(stat.lastIndexOf(')') + 2).split(' ')[19]
}
