import type { ContainerSpec } from '../../world.ts'
import { ApiError, failure, messageOf } from '../errors.ts'
import { checkLock, TASK_LOCK_SECONDS } from '../guests/store.ts'
import type { Call, Lab } from '../router.ts'
import type { Say, TaskContext } from '../tasks.ts'
import { applyPending } from './config.ts'
import { containerSpec } from './spec.ts'

/** Start, stop, shutdown, reboot. Unlike a VM, a container in the wrong state is refused at once. */

/** seconds that a container gets to shut down, unless told otherwise */
const SHUTDOWN_SECONDS = 60

type Log = (line: string) => void

export async function isRunning(lab: Lab, vmid: number): Promise<boolean> {
  return (await lab.containers.status(vmid)).running
}

export function startContainer(lab: Lab, vmid: number, say: Say, skipLock = false): Promise<void> {
  return lab.guests.locked(vmid, TASK_LOCK_SECONDS, () => startLocked(lab, vmid, say, skipLock))
}

/** For those who hold the container's lock already. */
export async function startLocked(lab: Lab, vmid: number, say: Say, skipLock = false): Promise<void> {
  await lab.postStop.settled(vmid)
  const guest = lab.guests.need(vmid, 'lxc')
  if (guest.config.template === 1) throw failure("you can't start a CT if it's a template")
  checkLock(guest, skipLock)
  if (await isRunning(lab, vmid)) throw failure(`CT ${vmid} already running`)
  await applyPending(lab, guest)
  const spec = await containerSpec(lab, vmid, guest.config)
  for (const { bridge } of spec.nics) {
    if (bridge === '' || lab.bridges.some(({ name }) => name === bridge)) continue
    say.log(`bridge '${bridge}' does not exist`)
    throw failure(`startup for container '${vmid}' failed`)
  }
  const { systemd } = await lab.containers.start(spec, say.log)
  warnWithoutNesting(lab, spec, systemd, say)
}

/** Whenever Proxmox has looked into the root of a container. @param systemd its version, where that is init there */
export function warnWithoutNesting(
  { pve }: Lab,
  { features }: ContainerSpec,
  systemd: number | undefined,
  { warn }: Say,
): void {
  if (systemd === undefined || features.nesting || systemd <= pve.systemdWithoutNesting) return
  warn(`Systemd ${systemd} detected. You may need to enable nesting.`)
}

export async function start(call: Call): Promise<string> {
  const { lab, vmid } = call
  const skip = call.onlyRoot('skiplock')
  if (await isRunning(lab, vmid)) throw failure(`CT ${vmid} already running`)
  return call.task('vzstart', vmid, (task) => startContainer(lab, vmid, task, skip))
}

/** A task on a container that runs; the one that is not there does not run either, and is refused in these words. */
async function runningTask(
  call: Call,
  type: string,
  word: 'CT' | 'VM',
  work: (task: TaskContext) => Promise<void>,
): Promise<string> {
  const { lab, vmid } = call
  const skip = call.onlyRoot('skiplock')
  if (!(await isRunning(lab, vmid))) throw failure(`${word} ${vmid} not running`)
  return call.task(type, vmid, async (task) => {
    checkLock(call.guest, skip)
    await work(task)
  })
}

export function stop(call: Call): Promise<string> {
  const { lab, vmid } = call
  return runningTask(call, 'vzstop', 'CT', () =>
    lab.guests.locked(vmid, TASK_LOCK_SECONDS, () => lab.containers.stop(vmid)),
  )
}

export async function shutDown(
  lab: Lab,
  vmid: number,
  seconds: number,
  force: boolean,
  log: Log,
): Promise<void> {
  if (!(await isRunning(lab, vmid))) return
  try {
    await lab.containers.shutdown(vmid, seconds)
  } catch (error) {
    if (!force) throw error
    log(messageOf(error))
    await lab.containers.stop(vmid)
  }
}

export function shutdown(call: Call): Promise<string> {
  const { lab, vmid } = call
  const seconds = call.number('timeout') ?? SHUTDOWN_SECONDS
  return runningTask(call, 'vzshutdown', 'CT', ({ log }) =>
    lab.guests.locked(vmid, TASK_LOCK_SECONDS, () =>
      shutDown(lab, vmid, seconds, call.flag('forceStop'), log),
    ),
  )
}

export function reboot(call: Call): Promise<string> {
  const { lab, vmid } = call
  const seconds = call.number('timeout') ?? SHUTDOWN_SECONDS
  return runningTask(call, 'vzreboot', 'VM', async (task) => {
    await lab.guests.locked(vmid, TASK_LOCK_SECONDS, () => shutDown(lab, vmid, seconds, false, task.log))
    await startContainer(lab, vmid, task)
  })
}

/** POST …/status/suspend and resume */
export async function freeze(call: Call): Promise<never> {
  const { guest, vmid } = call
  if (!(await isRunning(call.lab, guest.vmid))) throw failure(`CT ${vmid} not running`)
  throw new ApiError(501, 'the lab does not freeze containers')
}
