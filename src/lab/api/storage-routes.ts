import { readFile, rm } from 'node:fs/promises'
import { formatOf, virtualSize } from '../qemu-img.ts'
import type { Storage, Volume } from '../world.ts'
import { failure, messageOf, parameterError } from './errors.ts'
import { splitList } from './formats.ts'
import { checkedFormat } from './guests/allocate.ts'
import { parseSize } from './guests/drives.ts'
import { MAY_FETCH } from './node-routes.ts'
import { boolean, formatted, integer, oneOf, optional, type Rules, string } from './parameters.ts'
import { type Call, type Check, del, get, on, onAny, post, type Route, VMID } from './router.ts'
import { downloadUrl, upload } from './storage-files.ts'
import { BACKUP, isShown, mayRead, requireRead } from './volume-permissions.ts'

/** /storage and /nodes/{node}/storage … */

const STORAGE = '/nodes/{node}/storage/{storage}'
const READ: Check = onAny('/storage/{storage}', 'Datastore.Audit', 'Datastore.AllocateSpace')
const TEMPLATE: Check = on('/storage/{storage}', 'Datastore.AllocateTemplate')
const FILE_CONTENT = { ...oneOf('iso', 'vztmpl', 'import'), format: 'content' as const }
const CHECKSUM: Rules = {
  checksum: optional(string({ requires: 'checksum-algorithm' })),
  'checksum-algorithm': optional({
    ...oneOf('md5', 'sha1', 'sha224', 'sha256', 'sha384', 'sha512'),
    requires: 'checksum',
  }),
}

export async function storageRow(storage: Storage) {
  const { total, used, avail } = await storage.status()
  return {
    type: storage.type,
    content: storage.content.join(','),
    ...{ total, used, avail, active: 1, enabled: 1, shared: storage.shared ? 1 : 0 },
  }
}

async function listStorages(call: Call): Promise<unknown[]> {
  const wanted = splitList(call.text('content') ?? '')
  const found: unknown[] = []
  for (const storage of call.lab.storages.values()) {
    if (call.has('storage') && call.text('storage') !== storage.id) continue
    if (!call.allowed(`/storage/${storage.id}`, ['Datastore.Audit', 'Datastore.AllocateSpace'], true))
      continue
    if (wanted.length > 0 && !wanted.some((type) => (storage.content as readonly string[]).includes(type)))
      continue
    const row = await storageRow(storage)
    found.push({ storage: storage.id, ...row, used_fraction: row.total > 0 ? row.used / row.total : 0 })
  }
  return found
}

function configOf(storage: Storage): Record<string, unknown> {
  const path =
    storage.type === 'dir' ? { path: storage.path(`${storage.id}:iso/x`).replace(/\/template\/.*$/, '') } : {}
  const shared = storage.shared ? { shared: 1 } : {}
  return {
    ...{ storage: storage.id, type: storage.type, content: storage.content.join(','), ...shared },
    ...path,
  }
}

/** The volume that a path names, with or without its storage. */
function volumeId(call: Call): string {
  const volume = call.need('volume')
  if (!volume.includes(':')) return `${call.storage.id}:${volume}`
  const [storage] = volume.split(':', 1)
  if (storage !== call.storage.id)
    throw parameterError({ storage: `storage ID mismatch (${storage} != ${call.storage.id})` })
  return volume
}

async function describe({ lab, storage }: Call, volume: Volume): Promise<Record<string, unknown>> {
  const { volid, format, size, ctime, vmid } = volume
  if (volume.content === 'backup') return describeBackup(storage, volume)
  // The storage does not know what a guest is.
  const isRoot = volume.content === 'images' && lab.guests.find(vmid as number)?.type === 'lxc'
  const content = isRoot ? 'rootdir' : volume.content
  if (content !== 'images' && content !== 'rootdir') {
    const shown = content === 'vztmpl' ? `t${format.replace(/^t?(?:ar\.)?/, '')}` : format
    return { volid, content, format: content === 'iso' ? 'iso' : shown, size, ctime }
  }
  return {
    volid,
    content,
    format,
    size,
    ctime,
    used: volume.used,
    vmid,
    parent: parentOf(storage, volume),
  }
}

/** As the image file has it on a directory, relative to the guest's own folder; on ZFS the base's snapshot. */
function parentOf({ type }: Storage, { parent }: Volume): string | null {
  if (parent === undefined) return null
  const own = parent.slice(parent.indexOf(':') + 1)
  return type === 'dir' ? `../${own}` : `${own}@__base__`
}

async function describeBackup(storage: Storage, volume: Volume): Promise<Record<string, unknown>> {
  const { volid, content, format, size } = volume
  const [, subtype, vmid, ...time] = BACKUP.exec(volid) ?? []
  const [year = 0, month = 1, ...rest] = time.map(Number)
  const ctime =
    subtype === undefined ? volume.ctime : new Date(year, month - 1, ...(rest as [])).getTime() / 1000
  const notes = await readFile(`${storage.path(volid)}.notes`, 'utf8').catch(() => undefined)
  return {
    ...{ volid, content, format, size, ctime },
    ...(subtype !== undefined && { subtype, vmid: Number(vmid) }),
    ...(notes !== undefined && { notes }),
  }
}

async function listContent(call: Call): Promise<unknown[]> {
  const { storage } = call
  const content = call.text('content')
  const vmid = call.number('vmid')
  const all = (await storage.list()).filter((volume) => isShown(volume) && mayRead(call, volume))
  const rows = await Promise.all(all.map((volume) => describe(call, volume)))
  return rows
    .filter((row) => content === undefined || row.content === content)
    .filter((row) => vmid === undefined || row.vmid === undefined || row.vmid === vmid)
    .sort((a, b) => (String(a.volid) < String(b.volid) ? -1 : 1))
}

async function readVolume(call: Call): Promise<unknown> {
  const { storage } = call
  const volid = volumeId(call)
  const volume = await storage.find(volid)
  if (!volume) {
    call.require(`/storage/${storage.id}`, ['Datastore.Audit', 'Datastore.AllocateSpace'], true)
    throw failure(`volume '${volid}' does not exist`)
  }
  requireRead(call, volume)
  return { path: storage.path(volid), used: volume.used, ...(await measured(storage, volume)) }
}

/** As qemu-img sees it, to which a file that is no disk image is a raw one, in whole sectors. */
async function measured(storage: Storage, { volid, content, size, format }: Volume) {
  if (content === 'images') return { size, format }
  const path = storage.path(volid)
  return { size: await virtualSize(path), format: formatOf(path) }
}

/** POST …/content: a disk for a guest, made at once. */
async function allocate(call: Call): Promise<string> {
  const { storage } = call
  const vmid = call.vmid
  const filename = call.need('filename')
  const name = new RegExp(`^(vm-${vmid}-[^/.]+)(?:\\.(raw|qcow2|vmdk))?$`).exec(filename)
  if (!name) throw parameterError({ filename: `illegal name '${filename}' - should be 'vm-${vmid}-*'` })
  const text = call.need('size')
  const bytes = parseSize(/[MG]$/.test(text) ? text : `${text}K`)
  const format = checkedFormat(storage, call.text('format') ?? name[2])
  const volume = await storage.createDisk(vmid, bytes, format, () => undefined, name[1])
  return volume.volid
}

async function removeVolume(call: Call): Promise<string | null> {
  const { storage, lab } = call
  const volid = volumeId(call)
  const backup = BACKUP.exec(volid)
  const owner = backup?.[2] ?? /(?:vm|base)-(\d+)-/.exec(volid.split('/').at(-1) ?? '')?.[1]
  if (owner !== undefined && backup) {
    call.require(`/storage/${storage.id}`, ['Datastore.AllocateSpace'])
    call.require(`/vms/${owner}`, ['VM.Backup'])
  } else call.require(`/storage/${storage.id}`, ['Datastore.Allocate'])
  const upid = call.task(
    'imgdel',
    owner === undefined ? storage.id : `${owner}@${storage.id}`,
    async ({ log }) => {
      const volume = await storage.find(volid)
      if (!volume) log(`disk image '${storage.path(volid)}' does not exist`)
      else {
        const clones = volume.content === 'images' ? await storage.clonesOf(volid) : []
        if (clones.length > 0) {
          throw failure(`base volume '${volid.replace(/^[^:]+:/, '')}' is still in use by linked clones`)
        }
        await storage.remove(volid)
        if (backup) await rm(`${storage.path(volid)}.notes`, { force: true })
      }
      log(`Removed volume '${volid}'`)
    },
  )
  const seconds = call.number('delay')
  if (seconds === undefined) return upid
  await lab.tasks.ended(upid, seconds)
  if (lab.tasks.isRunning(upid)) return upid
  const { exitstatus } = lab.tasks.find(upid)
  if (exitstatus !== 'OK') throw failure(messageOf(exitstatus))
  return null
}

export const STORAGE_ROUTES: readonly Route[] = [
  get('/storage', 'all', { type: optional(string()) }, (call) =>
    [...call.lab.storages.values()]
      .filter(({ type }) => !call.has('type') || call.text('type') === type)
      .filter(({ id }) =>
        call.allowed(`/storage/${id}`, ['Datastore.Audit', 'Datastore.AllocateSpace'], true),
      )
      .map(configOf),
  ),
  get('/storage/{storage}', on('/storage/{storage}', 'Datastore.Allocate'), {}, (call) =>
    configOf(call.storage),
  ),
  get(
    '/nodes/{node}/storage',
    'all',
    {
      content: optional(formatted('content-list')),
      enabled: optional(boolean()),
      format: optional(boolean()),
      storage: optional(formatted('storage')),
      target: optional(formatted('node')),
    },
    listStorages,
  ),
  get(STORAGE, READ, {}, () => ['content', 'download-url', 'status', 'upload'].map((subdir) => ({ subdir }))),
  get(`${STORAGE}/status`, READ, {}, (call) => {
    if (!call.lab.storages.has(call.need('storage'))) throw parameterError({ storage: 'No such storage.' })
    return storageRow(call.storage)
  }),
  get(
    `${STORAGE}/content`,
    READ,
    { content: optional(formatted('content')), vmid: optional(VMID) },
    listContent,
  ),
  post(
    `${STORAGE}/content`,
    on('/storage/{storage}', 'Datastore.AllocateSpace'),
    {
      filename: string(),
      format: optional({ ...oneOf('raw', 'qcow2', 'subvol', 'vmdk'), requires: 'size' }),
      size: string({ pattern: /^\d+[MG]?$/ }),
      vmid: VMID,
    },
    allocate,
  ),
  get(`${STORAGE}/content/{volume}`, 'all', {}, readVolume),
  del(
    `${STORAGE}/content/{volume}`,
    'all',
    { delay: optional(integer({ minimum: 1, maximum: 30 })) },
    removeVolume,
  ),
  post(
    `${STORAGE}/upload`,
    TEMPLATE,
    {
      ...CHECKSUM,
      content: FILE_CONTENT,
      filename: string({ maxLength: 255 }),
      tmpfilename: optional(string({ pattern: /^\/var\/tmp\/pveupload-[0-9a-f]+$/ })),
    },
    upload,
  ),
  post(
    `${STORAGE}/download-url`,
    { and: [TEMPLATE, MAY_FETCH] },
    {
      ...CHECKSUM,
      compression: optional(string()),
      content: FILE_CONTENT,
      filename: string({ maxLength: 255 }),
      url: string({ pattern: /^https?:\/\/.*/ }),
      'verify-certificates': optional(boolean()),
    },
    downloadUrl,
  ),
]
