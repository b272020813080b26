import { failure, messageOf } from '../errors.ts'
import type { Call, Lab } from '../router.ts'
import { writeCloudInitDrive } from './cloudinit.ts'
import { applyPending } from './config.ts'
import { machineSpec } from './machine-spec.ts'
import { checkLock, TASK_LOCK_SECONDS } from './store.ts'

/** Start, stop, shutdown, reset, reboot, suspend, resume: all tasks, whose failures show in their exit status. */

/** seconds that a guest gets to shut down, unless told otherwise */
const SHUTDOWN_SECONDS = 60

type Log = (line: string) => void

export async function isRunning(lab: Lab, vmid: number): Promise<boolean> {
  return (await lab.machines.status(vmid)).running
}

/** what a task says that has to wait for a lock */
export function waiting(log: Log) {
  return { onWait: () => log('trying to acquire lock...') }
}

export async function startGuest(lab: Lab, vmid: number, log: Log, skipLock = false): Promise<void> {
  await lab.guests.locked(
    vmid,
    TASK_LOCK_SECONDS,
    async () => {
      const guest = lab.guests.need(vmid)
      if (guest.config.template === 1) throw failure("you can't start a vm if it's a template")
      checkLock(guest, skipLock)
      if (await isRunning(lab, vmid)) throw failure(`VM ${vmid} already running`)
      await applyPending(lab, guest, log)
      await writeCloudInitDrive(lab, vmid, guest.config, log)
      await lab.machines.start(await machineSpec(lab, vmid, guest.config, log), log)
    },
    waiting(log),
  )
}

export function start(call: Call): string {
  const { lab, vmid } = call
  const skip = call.onlyRoot('skiplock')
  return call.task('qmstart', vmid, ({ log }) => startGuest(lab, vmid, log, skip))
}

export function stop(call: Call): string {
  const { lab, vmid } = call
  call.onlyRoot('skiplock')
  return call.task('qmstop', vmid, async () => {
    lab.guests.need(vmid)
    if (await isRunning(lab, vmid)) await lab.machines.stop(vmid)
  })
}

export async function shutDown(
  lab: Lab,
  vmid: number,
  seconds: number,
  force: boolean,
  log: Log,
): Promise<void> {
  const guest = lab.guests.need(vmid)
  checkLock(guest)
  if (!(await isRunning(lab, vmid))) return
  try {
    await lab.machines.shutdown(vmid, seconds)
  } catch (error) {
    if (!force) throw error
    log(messageOf(error))
    log('VM still running - terminating now with SIGTERM')
    await lab.machines.stop(vmid)
  }
}

export function shutdown(call: Call): string {
  const { lab, vmid } = call
  call.onlyRoot('skiplock')
  const seconds = call.number('timeout') ?? SHUTDOWN_SECONDS
  return call.task('qmshutdown', vmid, ({ log }) => shutDown(lab, vmid, seconds, call.flag('forceStop'), log))
}

export async function reboot(call: Call): Promise<string> {
  const { lab, vmid } = call
  lab.guests.need(vmid)
  if (!(await isRunning(lab, vmid))) throw failure(`VM ${vmid} not running`)
  const seconds = call.number('timeout') ?? SHUTDOWN_SECONDS
  return call.task('qmreboot', vmid, async ({ log }) => {
    await shutDown(lab, vmid, seconds, false, log)
    await startGuest(lab, vmid, log)
  })
}

export async function reset(call: Call): Promise<string> {
  const { lab, vmid } = call
  const skip = call.onlyRoot('skiplock')
  const guest = lab.guests.need(vmid)
  if (!(await isRunning(lab, vmid))) throw failure(`VM ${vmid} not running`)
  return call.task('qmreset', vmid, async () => {
    checkLock(guest, skip)
    await lab.machines.reset(vmid)
  })
}

async function runningTask(call: Call, type: string, work: () => Promise<void>): Promise<string> {
  const { lab, vmid } = call
  const skip = call.onlyRoot('skiplock')
  const guest = lab.guests.need(vmid)
  if (!(await isRunning(lab, vmid))) throw failure(`VM ${vmid} not running`)
  return call.task(type, vmid, async () => {
    checkLock(guest, skip)
    await work()
  })
}

export function suspend(call: Call): Promise<string> {
  if (call.flag('todisk')) throw failure('the lab keeps no RAM state on disk')
  return runningTask(call, 'qmpause', async () => {
    await call.lab.machines.monitor(call.vmid, 'stop')
  })
}

export function resume(call: Call): Promise<string> {
  return runningTask(call, 'qmresume', async () => {
    await call.lab.machines.monitor(call.vmid, 'cont')
  })
}
