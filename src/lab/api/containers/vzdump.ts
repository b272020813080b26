import { rename, rm, stat, writeFile } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { PARTIAL } from '../../qemu-img.ts'
import type { Storage } from '../../world.ts'
import { ApiError, failure, messageOf } from '../errors.ts'
import { splitList } from '../formats.ts'
import { checkLock, type Guest, TASK_LOCK_SECONDS } from '../guests/store.ts'
import { boolean, formatted, integer, list, oneOf, optional, type Rules, string } from '../parameters.ts'
import { type Call, findStorage, type Lab, post, type Route } from '../router.ts'
import type { TaskContext } from '../tasks.ts'
import { writeBackup } from './backup-archive.ts'
import { isRunning, shutDown, startLocked } from './lifecycle.ts'
import { containerSpec, hostnameOf } from './spec.ts'

/** Backups of containers, which stand still meanwhile. */

/** minutes that a running container gets to shut down, unless told otherwise */
const STOP_WAIT = 10
const SUFFIX: Record<string, string> = { '0': '', '1': '.lzo', lzo: '.lzo', gzip: '.gz', zstd: '.zst' }

/** what Proxmox knows and the lab does not do: said, rather than ignored */
const UNSUPPORTED = [
  ...['all', 'dumpdir', 'exclude', 'exclude-path', 'fleecing', 'job-id', 'maxfiles', 'pool', 'protected'],
  ...['prune-backups', 'script', 'stop', 'tmpdir'],
]

const PARAMETERS: Rules = {
  ...Object.fromEntries(
    ['all', 'protected', 'quiet', 'remove', 'stdexcludes', 'stdout', 'stop'].map((name) => [
      name,
      optional(boolean()),
    ]),
  ),
  ...Object.fromEntries(
    [
      ...['dumpdir', 'fleecing', 'mailto', 'notification-target', 'performance', 'pool'],
      ...['prune-backups', 'script', 'tmpdir', 'pbs-change-detection-mode'],
    ].map((name) => [name, optional(string())]),
  ),
  'job-id': optional(string({ maxLength: 50, pattern: /\S+/ })),
  bwlimit: optional(integer({ minimum: 0 })),
  compress: optional(oneOf('0', '1', 'gzip', 'lzo', 'zstd')),
  exclude: optional(formatted('vmid-list')),
  'exclude-path': optional(list()),
  ionice: optional(integer({ minimum: 0, maximum: 8 })),
  lockwait: optional(integer({ minimum: 0 })),
  mailnotification: optional(oneOf('always', 'failure')),
  maxfiles: optional(integer({ minimum: 1 })),
  mode: optional(oneOf('snapshot', 'suspend', 'stop')),
  'notes-template': optional(string({ maxLength: 1024, requires: 'storage' })),
  'notification-mode': optional(oneOf('auto', 'legacy-sendmail', 'notification-system')),
  'notification-policy': optional(oneOf('always', 'failure', 'never')),
  pigz: optional(integer()),
  stopwait: optional(integer({ minimum: 0 })),
  storage: optional(formatted('storage')),
  vmid: optional(formatted('vmid-list')),
  zstd: optional(integer()),
}

/** POST /nodes/{node}/vzdump */
function vzdump(call: Call): string {
  const { lab } = call
  for (const name of UNSUPPORTED) {
    const value = call.text(name)
    if (value !== undefined && value !== '0') throw new ApiError(501, `the lab backs up without '${name}'`)
  }
  const vmids = splitList(call.text('vmid') ?? '').map(Number)
  if (vmids.length === 0) throw failure('no guests to back up: give vmid')
  const storage = findStorage(lab, call.text('storage') ?? 'local')
  call.require(`/storage/${storage.id}`, ['Datastore.AllocateSpace'])
  if (!storage.content.includes('backup')) {
    throw failure(`can't use storage '${storage.id}' for backups - wrong content type`)
  }
  if (vmids.some((vmid) => lab.guests.find(vmid)?.type === 'qemu')) {
    throw new ApiError(501, 'the lab backs up containers only')
  }
  const words = Object.entries(call.values).map(([name, value]) => `--${name} ${quoted(String(value))}`)
  const command = words.filter((word) => !word.startsWith('--vmid ')).join(' ')
  return call.task('vzdump', vmids.length === 1 ? (vmids[0] as number) : '', async (task) => {
    task.log(`INFO: starting new backup job: vzdump ${vmids.join(' ')} ${command}`)
    for (const vmid of vmids) {
      // Asked for here alone.
      call.require(`/vms/${vmid}`, ['VM.Backup'])
    }
    let failed = false
    for (const vmid of vmids) failed = !(await backUp(call, vmid, storage, task)) || failed
    if (failed) {
      task.log('INFO: Backup job finished with errors')
      throw failure('job errors')
    }
    task.log('INFO: Backup job finished successfully')
  })
}

function quoted(text: string): string {
  return /^[\w,./:@%+=-]+$/.test(text) ? text : `'${text.replaceAll("'", `'"'"'`)}'`
}

/** One container; false when it failed, which its log explains. */
async function backUp(call: Call, vmid: number, storage: Storage, task: TaskContext): Promise<boolean> {
  const { log, signal } = task
  const started = new Date()
  log(`INFO: Starting Backup of VM ${vmid} (lxc)`)
  log(`INFO: Backup started at ${timestamp(started, '-', ' ', ':')}`)
  try {
    await call.lab.guests.locked(vmid, TASK_LOCK_SECONDS, async () => {
      const guest = call.lab.guests.need(vmid, 'lxc')
      checkLock(guest)
      await dumpLocked(call, guest, storage, started, task)
    })
  } catch (error) {
    const why = messageOf(signal.aborted ? signal.reason : error)
    log(`ERROR: Backup of VM ${vmid} failed - ${why}`)
    if (signal.aborted) throw signal.reason
    return false
  }
  const seconds = Math.round((Date.now() - started.getTime()) / 1000)
  log(`INFO: Finished Backup of VM ${vmid} (${duration(seconds)})`)
  log(`INFO: Backup finished at ${timestamp(new Date(), '-', ' ', ':')}`)
  return true
}

async function dumpLocked(
  call: Call,
  guest: Guest,
  storage: Storage,
  started: Date,
  task: TaskContext,
): Promise<void> {
  const { lab } = call
  const { log, signal } = task
  const { vmid, config } = guest
  const running = await isRunning(lab, vmid)
  const mode = call.text('mode') ?? 'snapshot'
  log(`INFO: status = ${running ? 'running' : 'stopped'}`)
  if (running && mode !== 'stop') throw failure(`the lab backs up running containers in mode 'stop' only`)
  log('INFO: backup mode: stop')
  log(`INFO: ionice priority: ${call.number('ionice') ?? 7}`)
  log(`INFO: CT Name: ${hostnameOf(vmid, config)}`)
  log("INFO: including mount point rootfs ('/') in backup")
  const written = { ...config }
  guest.config.lock = 'backup'
  await lab.guests.save(guest)
  try {
    if (running) {
      log('INFO: stopping virtual guest')
      await shutDown(lab, vmid, (call.number('stopwait') ?? STOP_WAIT) * 60, true, log)
    }
    const suffix = SUFFIX[call.text('compress') ?? '0'] as string
    const path = await freePlace(storage, vmid, started, `.tar${suffix}`)
    log(`INFO: creating vzdump archive '${path}'`)
    const unfinished = join(dirname(path), `${PARTIAL}${basename(path)}`)
    try {
      const spec = await containerSpec(lab, vmid, config)
      const info = (line: string) => log(`INFO: ${line}`)
      await lab.containers.dump(spec, `${unfinished}.tar.zst`, info, signal)
      await writeBackup({
        config: written,
        tree: `${unfinished}.tar.zst`,
        target: `${unfinished}.new`,
        suffix,
        signal,
      })
      await rename(`${unfinished}.new`, path)
    } finally {
      await rm(`${unfinished}.tar.zst`, { force: true })
      await rm(`${unfinished}.new`, { force: true })
    }
    log(`INFO: archive file size: ${Math.round((await stat(path)).size / 1024 ** 2)}MB`)
    const template = call.text('notes-template')
    if (template !== undefined) {
      log('INFO: adding notes to backup')
      await writeFile(`${path}.notes`, notes(template, lab, guest))
    }
  } finally {
    delete guest.config.lock
    await lab.guests.save(guest)
    if (running) {
      log('INFO: restarting vm')
      await startLocked(lab, vmid, task)
    }
  }
}

/** Names tell seconds: a backup that is made within the same one gets the next. */
async function freePlace(storage: Storage, vmid: number, started: Date, suffix: string): Promise<string> {
  for (let time = started.getTime(); ; time += 1000) {
    const name = `vzdump-lxc-${vmid}-${timestamp(new Date(time), '_', '-', '_')}${suffix}`
    const volid = `${storage.id}:backup/${name}`
    if (!(await storage.find(volid))) return storage.path(volid)
  }
}

/** The node's local time, as Proxmox writes it. */
function timestamp(date: Date, inDate: string, between: string, inTime: string): string {
  const two = (value: number) => String(value).padStart(2, '0')
  const day = [date.getFullYear(), two(date.getMonth() + 1), two(date.getDate())].join(inDate)
  return `${day}${between}${[date.getHours(), date.getMinutes(), date.getSeconds()].map(two).join(inTime)}`
}

function duration(seconds: number): string {
  return [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60]
    .map((value) => String(value).padStart(2, '0'))
    .join(':')
}

function notes(template: string, lab: Lab, { vmid, config }: Guest): string {
  const known: Record<string, string> = {
    cluster: lab.node,
    guestname: hostnameOf(vmid, config),
    node: lab.node,
    vmid: String(vmid),
  }
  return template
    .replace(/\\(\\|n)/g, (_, what: string) => (what === 'n' ? '\n' : '\\'))
    .replace(/\{\{(\w+)\}\}/g, (all, name: string) => known[name] ?? all)
}

export const BACKUP_ROUTES: readonly Route[] = [post('/nodes/{node}/vzdump', 'all', PARAMETERS, vzdump)]
