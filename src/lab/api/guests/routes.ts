import {
  boolean,
  formatted,
  integer,
  oneOf,
  optional,
  properties,
  type Rules,
  string,
} from '../parameters.ts'
import { type Check, del, get, on, onAny, post, put, type Route, SNAPSHOT_NAME, VMID } from '../router.ts'
import { clone } from './clone.ts'
import * as cloudInit from './cloudinit-calls.ts'
import * as config from './config.ts'
import { createGuest } from './create.ts'
import { feature, moveDisk, resize } from './disks.ts'
import { DISK_SLOTS } from './drives.ts'
import * as lifecycle from './lifecycle.ts'
import { GUEST_OPTIONS, MACHINE_FORMAT } from './options.ts'
import { MAY_CLONE } from './permissions.ts'
import { destroy, toTemplate } from './remove.ts'
import * as snapshots from './snapshots.ts'
import { current, listGuests } from './status.ts'

/** /nodes/{node}/qemu … */

const GUEST = '/nodes/{node}/qemu/{vmid}'
const vm = (...privileges: string[]): Check => on('/vms/{vmid}', ...privileges)
const vmAny = (...privileges: string[]): Check => onAny('/vms/{vmid}', ...privileges)

const SKIPLOCK: Rules = { skiplock: optional(boolean()) }
const DIGEST: Rules = { digest: optional(string({ maxLength: 40 })) }
const DISK_FORMAT = optional(oneOf('raw', 'qcow2', 'vmdk'))
const LIMIT: Rules = { bwlimit: optional(integer({ minimum: 0 })) }
const TIMEOUT: Rules = { timeout: optional(integer({ minimum: 0 })) }
const STORAGE = optional(formatted('storage'))
const SNAPSHOT = `${GUEST}/snapshot/{snapname}`

const ANY_CONFIG = vmAny(
  ...['VM.Config.Disk', 'VM.Config.CDROM', 'VM.Config.CPU', 'VM.Config.Memory', 'VM.Config.Network'],
  ...['VM.Config.HWType', 'VM.Config.Options', 'VM.Config.Cloudinit'],
)
/** what both forms of a change accept */
const CHANGE: Rules = {
  ...GUEST_OPTIONS,
  ...DIGEST,
  ...SKIPLOCK,
  delete: optional(formatted('configid-list')),
  revert: optional(formatted('configid-list')),
  force: optional(boolean()),
}
const CREATE: Rules = {
  ...GUEST_OPTIONS,
  ...LIMIT,
  vmid: VMID,
  archive: optional(string({ maxLength: 255 })),
  force: optional(boolean({ requires: 'archive' })),
  'ha-managed': optional(boolean()),
  'import-working-storage': STORAGE,
  'live-restore': optional(boolean()),
  pool: optional(formatted('poolid')),
  start: optional(boolean()),
  storage: STORAGE,
  unique: optional(boolean({ requires: 'archive' })),
}
const CLONE: Rules = {
  ...LIMIT,
  newid: VMID,
  description: optional(string()),
  format: DISK_FORMAT,
  full: optional(boolean()),
  name: optional(formatted('dns-name')),
  pool: optional(formatted('poolid')),
  snapname: optional(SNAPSHOT_NAME),
  storage: STORAGE,
  target: optional(formatted('node')),
}
const START: Rules = {
  ...SKIPLOCK,
  ...TIMEOUT,
  'force-cpu': optional(string()),
  machine: optional(properties(MACHINE_FORMAT)),
  migratedfrom: optional(formatted('node')),
  migration_network: optional(string()),
  migration_type: optional(oneOf('secure', 'insecure')),
  'nets-host-mtu': optional(string({ pattern: /^net\d+=\d+(?:,net\d+=\d+)*$/ })),
  stateuri: optional(string({ maxLength: 128 })),
  targetstorage: optional(string()),
  'with-conntrack-state': optional(boolean()),
}
const STOP: Rules = {
  ...SKIPLOCK,
  ...TIMEOUT,
  keepActive: optional(boolean()),
  migratedfrom: optional(formatted('node')),
  'overrule-shutdown': optional(boolean()),
}
const SHUTDOWN: Rules = {
  ...SKIPLOCK,
  ...TIMEOUT,
  forceStop: optional(boolean()),
  keepActive: optional(boolean()),
}
const MOVE: Rules = {
  ...LIMIT,
  ...DIGEST,
  delete: optional(boolean()),
  disk: oneOf(...DISK_SLOTS, ...Array.from({ length: 256 }, (_, index) => `unused${index}`)),
  format: DISK_FORMAT,
  storage: STORAGE,
  'target-digest': optional(string({ maxLength: 40 })),
  'target-disk': optional(string()),
  'target-vmid': optional(VMID),
}
const RESIZE: Rules = {
  ...DIGEST,
  ...SKIPLOCK,
  disk: oneOf(...DISK_SLOTS),
  size: string({ pattern: /^\+?\d+(\.\d+)?[KMGT]?$/ }),
}
const subdirectories = (...names: string[]) => names.map((name) => ({ subdir: name }))

export const GUEST_ROUTES: readonly Route[] = [
  get('/nodes/{node}/qemu', 'all', { full: optional(boolean()) }, listGuests),
  post('/nodes/{node}/qemu', 'all', CREATE, createGuest),
  get(GUEST, 'all', {}, () =>
    subdirectories('config', 'pending', 'status', 'snapshot', 'agent', 'cloudinit', 'feature'),
  ),
  del(
    GUEST,
    vm('VM.Allocate'),
    { ...SKIPLOCK, 'destroy-unreferenced-disks': optional(boolean()), purge: optional(boolean()) },
    destroy,
  ),

  get(
    `${GUEST}/config`,
    vm('VM.Audit'),
    { current: optional(boolean()), snapshot: optional(SNAPSHOT_NAME) },
    config.readConfig,
  ),
  put(`${GUEST}/config`, ANY_CONFIG, CHANGE, config.updateConfig),
  post(
    `${GUEST}/config`,
    ANY_CONFIG,
    {
      ...CHANGE,
      background_delay: optional(integer({ minimum: 1, maximum: 30 })),
      'import-working-storage': STORAGE,
    },
    config.updateConfigLater,
  ),
  get(`${GUEST}/pending`, vm('VM.Audit'), {}, config.readPending),
  put(
    `${GUEST}/unlink`,
    vm('VM.Config.Disk'),
    { force: optional(boolean()), idlist: formatted('configid-list') },
    config.unlink,
  ),
  put(`${GUEST}/resize`, vm('VM.Config.Disk'), RESIZE, resize),
  post(`${GUEST}/move_disk`, vm('VM.Config.Disk'), MOVE, moveDisk),
  get(
    `${GUEST}/feature`,
    vm('VM.Audit'),
    { feature: oneOf('snapshot', 'clone', 'copy'), snapname: optional(SNAPSHOT_NAME) },
    feature,
  ),

  get(`${GUEST}/cloudinit`, vm('VM.Audit'), {}, cloudInit.readCloudInit),
  put(`${GUEST}/cloudinit`, vm('VM.Config.Cloudinit'), {}, cloudInit.regenerateCloudInit),
  get(
    `${GUEST}/cloudinit/dump`,
    vm('VM.Audit'),
    { type: oneOf('user', 'network', 'meta') },
    cloudInit.dumpCloudInit,
  ),

  get(`${GUEST}/status`, 'all', {}, () =>
    subdirectories('current', 'start', 'stop', 'reset', 'shutdown', 'suspend', 'reboot', 'resume'),
  ),
  get(`${GUEST}/status/current`, vm('VM.Audit'), {}, current),
  post(`${GUEST}/status/start`, vm('VM.PowerMgmt'), START, lifecycle.start),
  post(`${GUEST}/status/stop`, vm('VM.PowerMgmt'), STOP, lifecycle.stop),
  post(`${GUEST}/status/shutdown`, vm('VM.PowerMgmt'), SHUTDOWN, lifecycle.shutdown),
  post(`${GUEST}/status/reboot`, vm('VM.PowerMgmt'), TIMEOUT, lifecycle.reboot),
  post(`${GUEST}/status/reset`, vm('VM.PowerMgmt'), SKIPLOCK, lifecycle.reset),
  post(
    `${GUEST}/status/suspend`,
    vm('VM.PowerMgmt'),
    {
      ...SKIPLOCK,
      statestorage: optional(formatted('storage', { requires: 'todisk' })),
      todisk: optional(boolean()),
    },
    lifecycle.suspend,
  ),
  post(
    `${GUEST}/status/resume`,
    vm('VM.PowerMgmt'),
    { ...SKIPLOCK, nocheck: optional(boolean()) },
    lifecycle.resume,
  ),
  get(`${GUEST}/snapshot`, vm('VM.Audit'), {}, snapshots.listSnapshots),
  post(
    `${GUEST}/snapshot`,
    vm('VM.Snapshot'),
    { description: optional(string()), snapname: SNAPSHOT_NAME, vmstate: optional(boolean()) },
    snapshots.createSnapshot,
  ),
  ...snapshots.snapshotRoutes(SNAPSHOT),

  post(`${GUEST}/clone`, MAY_CLONE, CLONE, clone),
  post(`${GUEST}/template`, vm('VM.Allocate'), { disk: optional(oneOf(...DISK_SLOTS)) }, toTemplate),
]
