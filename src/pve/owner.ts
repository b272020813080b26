import { createHash } from 'node:crypto'
import { readFile, readlink } from 'node:fs/promises'
import { hostname } from 'node:os'
import type { Owner } from './marks.ts'

let here: Promise<Owner> | undefined

/** This process, as a note names it: read once, since none of it changes while the process lives. */
export function thisOwner(): Promise<Owner> {
  here ??= readOwner()
  return here
}

async function readOwner(): Promise<Owner> {
  return {
    host: hostname(),
    machine: await machineId(),
    boot: await bootId(),
    pids: await pidNamespace(),
    pid: process.pid,
    started: (await startTime(process.pid)) ?? '',
  }
}

/** Whether a note names this very process. */
export async function isThisProcess(owner: Owner): Promise<boolean> {
  const here = await thisOwner()
  return (
    owner.boot === here.boot &&
    owner.pids === here.pids &&
    owner.pid === here.pid &&
    owner.started === here.started
  )
}

/**
 * Whether the process that a note names has ended. `undefined`: it ran where nobody here can see, so that only its
 * expiry counts. A host name says nothing: many machines are called `debian`, and containers share that of their host.
 */
export async function hasEnded(owner: Owner): Promise<boolean | undefined> {
  const here = await thisOwner()
  if (owner.boot === '' || here.boot === '') return undefined
  if (owner.boot === here.boot) {
    // Another container: its process ids mean nothing here.
    if (owner.pids !== here.pids) return undefined
    return (await startTime(owner.pid)) !== owner.started
  }
  const isSameMachine = owner.machine !== undefined && owner.machine !== '' && owner.machine === here.machine
  return isSameMachine && owner.host === here.host ? true : undefined
}

/** machine-id(5) of this installation, hashed: the id itself is not for strangers. */
async function machineId(): Promise<string> {
  const id = (await readFile('/etc/machine-id', 'utf8').catch(() => '')).trim()
  return id === '' ? '' : createHash('sha256').update(`imagebuild ${id}`).digest('hex').slice(0, 16)
}

/** pid_namespaces(7) */
async function pidNamespace(): Promise<string> {
  return await readlink('/proc/self/ns/pid').catch(() => '')
}

async function bootId(): Promise<string> {
  return (await readFile('/proc/sys/kernel/random/boot_id', 'utf8').catch(() => '')).trim()
}

/** Field 22 of /proc/<pid>/stat (proc(5)); the second field may hold spaces and ends with the last `)`. */
async function startTime(pid: number): Promise<string | undefined> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => undefined)
  return stat?.slice(stat.lastIndexOf(')') + 2).split(' ')[19]
}
