import { readConfig, readPending } from '../guests/config.ts'
import { MAY_CLONE } from '../guests/permissions.ts'
import * as snapshots from '../guests/snapshots.ts'
import { boolean, formatted, integer, number, oneOf, optional, type Rules, string } from '../parameters.ts'
import { type Check, del, get, on, onAny, post, put, type Route, SNAPSHOT_NAME, VMID } from '../router.ts'
import { clone, feature } from './clone.ts'
import { updateConfig } from './config.ts'
import { createContainer } from './create.ts'
import * as lifecycle from './lifecycle.ts'
import { CONTAINER_OPTIONS } from './options.ts'
import { resize } from './resize.ts'
import { current, interfaces, listContainers } from './status.ts'
import { destroy, toTemplate } from './template.ts'

/** /nodes/{node}/lxc … */

const GUEST = '/nodes/{node}/lxc/{vmid}'
const SNAPSHOT = `${GUEST}/snapshot/{snapname}`
const ct = (...privileges: string[]): Check => on('/vms/{vmid}', ...privileges)
const ctAny = (...privileges: string[]): Check => onAny('/vms/{vmid}', ...privileges)
const POWER = ct('VM.PowerMgmt')

const SKIPLOCK: Rules = { skiplock: optional(boolean()) }
const TIMEOUT: Rules = { timeout: optional(integer({ minimum: 0 })) }
const LIMIT: Rules = { bwlimit: optional(number({ minimum: 0 })) }
const STORAGE = optional(formatted('storage'))

const CREATE: Rules = {
  ...CONTAINER_OPTIONS,
  ...LIMIT,
  vmid: VMID,
  ostemplate: string({ maxLength: 255 }),
  force: optional(boolean()),
  'ha-managed': optional(boolean()),
  'ignore-unpack-errors': optional(boolean()),
  password: optional(string({ minLength: 5 })),
  pool: optional(formatted('poolid')),
  restore: optional(boolean()),
  'ssh-public-keys': optional(string()),
  start: optional(boolean()),
  storage: STORAGE,
  unique: optional(boolean({ requires: 'restore' })),
}
const CHANGE: Rules = {
  ...CONTAINER_OPTIONS,
  delete: optional(formatted('configid-list')),
  digest: optional(string({ maxLength: 40 })),
  revert: optional(formatted('configid-list')),
}
const CLONE: Rules = {
  ...LIMIT,
  newid: VMID,
  description: optional(string()),
  full: optional(boolean()),
  hostname: optional(formatted('dns-name')),
  pool: optional(formatted('poolid')),
  snapname: optional(SNAPSHOT_NAME),
  storage: STORAGE,
  target: optional(formatted('node')),
}
const MOUNT_POINTS = Array.from({ length: 256 }, (_, index) => `mp${index}`)
const subdirectories = (...names: string[]) => names.map((name) => ({ subdir: name }))

export const CONTAINER_ROUTES: readonly Route[] = [
  get('/nodes/{node}/lxc', 'all', {}, listContainers),
  post('/nodes/{node}/lxc', 'all', CREATE, createContainer),
  get(GUEST, 'all', {}, () =>
    subdirectories('config', 'pending', 'status', 'snapshot', 'interfaces', 'feature'),
  ),
  del(
    GUEST,
    ct('VM.Allocate'),
    {
      'destroy-unreferenced-disks': optional(boolean()),
      force: optional(boolean()),
      purge: optional(boolean()),
    },
    destroy,
  ),

  get(
    `${GUEST}/config`,
    ct('VM.Audit'),
    { current: optional(boolean()), snapshot: optional(SNAPSHOT_NAME) },
    readConfig,
  ),
  put(
    `${GUEST}/config`,
    ctAny(
      ...['VM.Config.Disk', 'VM.Config.CPU', 'VM.Config.Memory', 'VM.Config.Network', 'VM.Config.Options'],
    ),
    CHANGE,
    updateConfig,
  ),
  get(`${GUEST}/pending`, ct('VM.Audit'), {}, readPending),
  get(`${GUEST}/interfaces`, ct('VM.Audit'), {}, interfaces),
  put(
    `${GUEST}/resize`,
    ct('VM.Config.Disk'),
    {
      digest: optional(string({ maxLength: 40 })),
      disk: oneOf('rootfs', ...MOUNT_POINTS),
      size: string({ pattern: /^\+?\d+(\.\d+)?[KMGT]?$/ }),
    },
    resize,
  ),
  get(
    `${GUEST}/feature`,
    ct('VM.Audit'),
    { feature: oneOf('snapshot', 'clone', 'copy'), snapname: optional(SNAPSHOT_NAME) },
    feature,
  ),

  get(`${GUEST}/status`, 'all', {}, () =>
    subdirectories('current', 'start', 'stop', 'shutdown', 'suspend', 'reboot', 'resume'),
  ),
  get(`${GUEST}/status/current`, ct('VM.Audit'), {}, current),
  post(`${GUEST}/status/start`, POWER, { ...SKIPLOCK, debug: optional(boolean()) }, lifecycle.start),
  post(
    `${GUEST}/status/stop`,
    POWER,
    { ...SKIPLOCK, 'overrule-shutdown': optional(boolean()) },
    lifecycle.stop,
  ),
  post(`${GUEST}/status/shutdown`, POWER, { ...TIMEOUT, forceStop: optional(boolean()) }, lifecycle.shutdown),
  post(`${GUEST}/status/reboot`, POWER, TIMEOUT, lifecycle.reboot),
  post(`${GUEST}/status/suspend`, POWER, {}, lifecycle.freeze),
  post(`${GUEST}/status/resume`, POWER, {}, lifecycle.freeze),

  get(`${GUEST}/snapshot`, ct('VM.Audit'), {}, snapshots.listSnapshots),
  post(
    `${GUEST}/snapshot`,
    ct('VM.Snapshot'),
    { description: optional(string()), snapname: SNAPSHOT_NAME },
    snapshots.createSnapshot,
  ),
  ...snapshots.snapshotRoutes(SNAPSHOT),

  post(`${GUEST}/clone`, MAY_CLONE, CLONE, clone),
  post(`${GUEST}/template`, ct('VM.Allocate'), {}, toTemplate),
]
