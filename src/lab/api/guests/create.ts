import { randomUUID } from 'node:crypto'
import { isRootTicket } from '../access.ts'
import {
  ApiError,
  failure,
  messageOf,
  NO_HA,
  parameterError,
  permissionError,
  taskMessageOf,
} from '../errors.ts'
import type { Call } from '../router.ts'
import type { TaskContext } from '../tasks.ts'
import { allocateDrives } from './allocate.ts'
import { hashedPassword } from './cloudinit.ts'
import {
  defaultBootOrder,
  isDriveSlot,
  parseDrive,
  parseNet,
  printDrive,
  printNet,
  randomMac,
} from './drives.ts'
import { startGuest } from './lifecycle.ts'
import { abandonGuest, CREATE_LOCK_SECONDS, checkWorker, reserveGuest } from './new-guest.ts'
import { GUEST_OPTIONS } from './options.ts'
import { checkDrives, checkOptions, requireOnGuest } from './permissions.ts'
import { checkPublicKeys } from './ssh-keys.ts'
import type { GuestConfig } from './store.ts'
import { checkTags, normalTags, TAGS_OF_A_NEW_MACHINE } from './tags.ts'

/** POST /nodes/{node}/qemu */
export async function createGuest(call: Call): Promise<string> {
  const { lab, vmid } = call
  const pool = call.text('pool')
  if (call.has('archive')) throw parameterError({ archive: 'the lab restores no backups' })
  if (call.flag('ha-managed')) throw new ApiError(501, NO_HA)
  if (call.has('import-working-storage') || call.flag('live-restore')) {
    throw failure('the lab imports disks while the guest is stopped')
  }
  if (pool !== undefined && !lab.access.state.pools[pool]) throw failure(`pool '${pool}' does not exist`)
  if (call.flag('start') && lab.pve.startTakesPower) requireOnGuest(call, ['VM.PowerMgmt'], pool)
  const mayInPool = pool !== undefined && call.allowed(`/pool/${pool}`, ['VM.Allocate'])
  if (!mayInPool && !call.allowed(`/vms/${vmid}`, ['VM.Allocate'])) throw permissionError()
  const options = guestOptions(call)
  await checkCloudInitKeys(options)
  checkOptions(call, Object.keys(options), pool)
  checkDrives(call, vmid, Object.keys(options))
  const settings = await completeOptions(options)

  const prefix = `unable to create VM ${vmid} -`
  const wanted = { vmid, type: 'qemu', config: { lock: 'create' }, pool } as const
  const reserved = await reserveGuest(lab, wanted, CREATE_LOCK_SECONDS).catch((error) => {
    throw failure(`${prefix} ${messageOf(error)}`)
  })
  // The lock goes over to the task, which keeps everybody else out until the guest is whole.
  return call.task('qmcreate', vmid, async (task) => {
    checkWorker(lab, reserved)
    try {
      await build(call, settings, task)
      await reserved.finish(task)
    } catch (error) {
      throw failure(`${prefix} ${taskMessageOf(error)}`)
    } finally {
      reserved.release()
    }
    if (!call.flag('start')) return
    task.log('Execute autostart')
    call.task('qmstart', vmid, ({ log }) => startGuest(lab, vmid, log))
  })
}

async function build(call: Call, settings: GuestConfig, task: TaskContext): Promise<void> {
  const { lab, vmid } = call
  const created: string[] = []
  try {
    const drives = await allocateDrives(lab, vmid, settings, created, task.log, task.signal)
    const config: GuestConfig = { ...settings, ...drives }
    config.boot ??= defaultBootOrder(config)
    config.smbios1 ??= `uuid=${randomUUID()}`
    if (config.vmgenid === undefined || config.vmgenid === '1') config.vmgenid = randomUUID()
    config.meta = `creation-qemu=${lab.pve.qemu},ctime=${Math.floor(Date.now() / 1000)}`
    if (config.tags !== undefined && lab.pve.tagsOfNewMachines) {
      await checkTags(call, TAGS_OF_A_NEW_MACHINE, String(config.tags))
      config.tags = normalTags(String(config.tags))
    }
    const guest = lab.guests.need(vmid)
    guest.config = config
    await lab.guests.save(guest)
  } catch (error) {
    await abandonGuest(lab, vmid, created, task.log)
    throw error
  }
}

/** @throws ApiError 500 */
export async function checkCloudInitKeys({ sshkeys }: GuestConfig): Promise<void> {
  if (sshkeys !== undefined) await checkPublicKeys(decodeURIComponent(String(sshkeys)))
}

/** The options among a call's parameters, with `cdrom` as the ide2 that it is. */
export function guestOptions(call: Call): GuestConfig {
  const options: GuestConfig = {}
  for (const [name, value] of Object.entries(call.values)) {
    if (!(name in GUEST_OPTIONS) || Array.isArray(value)) continue
    options[name] = value
  }
  if (options.cdrom !== undefined) {
    const drive = parseDrive('ide2', options.cdrom)
    options.ide2 = printDrive('ide2', { ...drive, media: 'cdrom' })
    call.values.ide2 = options.ide2
    delete options.cdrom
  }
  if (options.hookscript !== undefined && isRootTicket(call.caller)) {
    throw parameterError({ hookscript: `script '${options.hookscript}' does not exist\n` })
  }
  return options
}

/** Missing MACs, hashed password; drives keep the form that asks for their making. */
export async function completeOptions(options: GuestConfig): Promise<GuestConfig> {
  const complete = { ...options }
  for (const [name, value] of Object.entries(options)) {
    if (/^net\d+$/.test(name)) {
      const net = parseNet(value)
      net.macaddr ??= randomMac()
      complete[name] = printNet(net)
    }
    if (isDriveSlot(name)) complete[name] = printDrive(name, parseDrive(name, value))
    if (name === 'cipassword') complete[name] = await hashedPassword(String(value))
  }
  return complete
}
