import { ApiError, failure, messageOf, NO_HA, permissionError, taskMessageOf } from '../errors.ts'
import { abandonGuest, CREATE_LOCK_SECONDS, checkWorker, reserveGuest } from '../guests/new-guest.ts'
import { checkPublicKeys } from '../guests/ssh-keys.ts'
import type { GuestConfig } from '../guests/store.ts'
import type { Call, Lab } from '../router.ts'
import type { TaskContext } from '../tasks.ts'
import { startContainer, warnWithoutNesting } from './lifecycle.ts'
import {
  checkArchive,
  checkOptions,
  checkRootStorage,
  mayBePrivileged,
  requirePrivileged,
} from './permissions.ts'
import { restoreContainer } from './restore.ts'
import { archivePath, createRoot, DEFAULT_SIZE, type Plan, rootPlan } from './root.ts'
import { completeOptions, containerOptions } from './settings.ts'
import { containerSpec, DEFAULT_MEMORY, DEFAULT_SWAP } from './spec.ts'

/** New containers: from a template, or from a backup. */

/** POST /nodes/{node}/lxc */
export async function createContainer(call: Call): Promise<string> {
  const { lab, vmid } = call
  const restore = call.flag('restore')
  if (call.flag('ha-managed')) throw new ApiError(501, NO_HA)
  const asked = call.has('unprivileged') ? call.flag('unprivileged') : undefined
  const unprivileged = asked ?? (restore ? undefined : lab.pve.unprivilegedByDefault)
  if (!restore && !unprivileged) requirePrivileged(call)
  const pool = call.text('pool')
  if (pool !== undefined && !lab.access.state.pools[pool]) throw failure(`pool '${pool}' does not exist`)
  lab.guests.refuseTaken(vmid)
  const mayInPool = pool !== undefined && call.allowed(`/pool/${pool}`, ['VM.Allocate'])
  if (!mayInPool && !call.allowed(`/vms/${vmid}`, ['VM.Allocate'])) throw permissionError()
  const { unprivileged: _, ...options } = containerOptions(call)
  await checkOptions(call, { set: options, remove: [], unprivileged: unprivileged === true, pool })
  const archive = call.need('ostemplate')
  checkArchive(call, archive, restore ? 'backup' : 'vztmpl')
  const root = rootPlan(call, restore)
  checkRootStorage(call, root.storage)
  const password = call.text('password')
  const sshPublicKeys = call.text('ssh-public-keys')
  if (sshPublicKeys !== undefined) await checkPublicKeys(sshPublicKeys)
  const plan: Plan = {
    ...{ vmid, archive, root, unique: call.flag('unique'), mayBePrivileged: mayBePrivileged(call) },
    ...{ unprivileged, settings: completeOptions(options) },
    ...(password !== undefined && { password }),
    ...(sshPublicKeys !== undefined && { sshPublicKeys }),
  }

  const prefix = `unable to ${restore ? 'restore' : 'create'} CT ${vmid} -`
  const wanted = { vmid, type: 'lxc', config: { lock: 'create' }, pool } as const
  const reserved = await reserveGuest(lab, wanted, CREATE_LOCK_SECONDS).catch((error) => {
    throw failure(`${prefix} ${messageOf(error)}`)
  })
  // The lock goes over to the task, which keeps everybody else out until the container is whole.
  return call.task(restore ? 'vzrestore' : 'vzcreate', vmid, async (task) => {
    checkWorker(lab, reserved)
    try {
      await build(lab, plan, restore, task)
      await reserved.finish(task)
    } catch (error) {
      throw failure(`${prefix} ${whyNot(error, task.signal)}`)
    } finally {
      reserved.release()
    }
    // In a task of its own, which nobody waits for here.
    if (call.flag('start')) call.task('vzstart', vmid, (task) => startContainer(lab, vmid, task))
  })
}

/** Of a program that was stopped, its command is named too. */
function whyNot(error: unknown, { aborted, reason }: AbortSignal): string {
  const why = taskMessageOf(error)
  return aborted && !why.endsWith(messageOf(reason)) ? messageOf(reason) : why
}

async function build(lab: Lab, plan: Plan, restore: boolean, task: TaskContext): Promise<void> {
  const created: string[] = []
  try {
    const guest = lab.guests.need(plan.vmid, 'lxc')
    const make = restore ? restoreContainer : fillFromTemplate
    guest.config = await make(lab, plan, created, task)
    await lab.guests.save(guest)
  } catch (error) {
    await abandonGuest(lab, plan.vmid, created, task.log)
    throw error
  }
}

async function fillFromTemplate(
  lab: Lab,
  plan: Plan,
  created: string[],
  task: TaskContext,
): Promise<GuestConfig> {
  const config: GuestConfig = {
    ...{ memory: DEFAULT_MEMORY, swap: DEFAULT_SWAP, arch: 'amd64', hostname: `CT${plan.vmid}` },
    ...plan.settings,
    ...(plan.unprivileged && { unprivileged: 1 }),
  }
  config.rootfs = await createRoot(lab, plan, DEFAULT_SIZE, created, task)
  const archive = await archivePath(lab, plan.archive)
  const { password, sshPublicKeys } = plan
  const spec = await containerSpec(lab, plan.vmid, config)
  const from = {
    archive,
    ...(password !== undefined && { password }),
    ...(sshPublicKeys !== undefined && { sshPublicKeys }),
  }
  const { ostype, systemd } = await lab.containers.create(spec, from, task.log, task.signal)
  warnWithoutNesting(lab, spec, systemd, task)
  return { ...config, ostype }
}
