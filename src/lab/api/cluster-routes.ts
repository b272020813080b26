import { DATACENTER_OPTIONS } from './datacenter.ts'
import { parameterError } from './errors.ts'
import { splitList } from './formats.ts'
import { GuestRows } from './guests/rows.ts'
import { wordFor } from './guests/store.ts'
import { allowedTags } from './guests/tags.ts'
import { nodeRow } from './node-routes.ts'
import { formatted, oneOf, optional } from './parameters.ts'
import { type Call, get, type Lab, on, put, type Route, VMID } from './router.ts'
import { storageRow } from './storage-routes.ts'

/** /version and /cluster … */

const FIRST_VMID = 100
const rows = new WeakMap<Lab, GuestRows>()

function guestRows(lab: Lab): GuestRows {
  const found = rows.get(lab) ?? new GuestRows()
  rows.set(lab, found)
  return found
}

async function resources(call: Call): Promise<unknown[]> {
  const { lab } = call
  const type = call.text('type')
  const found: unknown[] = []
  if (type === undefined || type === 'vm') {
    const guests = lab.guests.everywhere()
    guestRows(lab).forget(new Set(guests.map(({ vmid }) => vmid)))
    const visible = lab.access.allowedGuests(call.caller, ['VM.Audit'])
    for (const guest of guests) {
      if (visible(guest.vmid)) found.push(await guestRows(lab).row(lab, guest))
    }
  }
  for (const node of lab.nodes.values()) found.push(...(await resourcesOf(call, node, type)))
  return found
}

/** What is on one node: itself, its storages (shared ones have a row on each), its network. */
async function resourcesOf(call: Call, { node, storages }: Lab, type: string | undefined) {
  const found: Record<string, unknown>[] = []
  if (type === undefined || type === 'node') found.push({ id: `node/${node}`, ...(await nodeRow(node)) })
  if (type === undefined || type === 'storage') {
    for (const storage of storages.values()) {
      if (!call.allowed(`/storage/${storage.id}`, ['Datastore.Audit'])) continue
      const { total, used, content, shared } = await storageRow(storage)
      found.push({
        ...{ id: `storage/${node}/${storage.id}`, type: 'storage', storage: storage.id, node },
        ...{ status: 'available', plugintype: storage.type, content, shared },
        ...{ disk: used, maxdisk: total },
      })
    }
  }
  if (type === undefined || type === 'sdn') {
    const zone = { id: `sdn/${node}/localnetwork`, sdn: 'localnetwork', type: 'sdn', node, status: 'ok' }
    if (call.allowed('/sdn/zones/localnetwork', ['SDN.Audit', 'SDN.Use'], true)) found.push(zone)
  }
  return found
}

/** Of a single node there is no cluster to speak of: then its row stands alone, with the ID 0. */
function clusterStatus({ lab }: Call): unknown[] {
  const names = [...lab.nodes.keys()]
  const isCluster = names.length > 1
  const nodes = names.map((name, index) => ({
    ...{ id: `node/${name}`, type: 'node', name, nodeid: isCluster ? index + 1 : 0 },
    ...{ local: name === lab.node ? 1 : 0, online: 1, level: '' },
    ip: lab.bridges[0]?.address ?? '127.0.0.1',
  }))
  const cluster = {
    ...{ id: 'cluster', type: 'cluster', name: 'lab', version: names.length },
    ...{ nodes: names.length, quorate: 1 },
  }
  return isCluster ? [cluster, ...nodes] : nodes
}

/** The lowest free VMID: nothing is reserved by asking. */
function nextId(call: Call): string {
  const wanted = call.number('vmid')
  if (wanted !== undefined) {
    const taken = call.lab.guests.find(wanted)
    if (taken) throw parameterError({ vmid: `${wordFor(taken.type)} ${wanted} already exists` })
    return String(wanted)
  }
  let vmid = FIRST_VMID
  while (call.lab.guests.find(vmid)) vmid++
  return String(vmid)
}

/** Without Sys.Audit on `/` nobody learns the rules that tags have. */
async function options({ lab, caller }: Call): Promise<unknown> {
  const all = { mac_prefix: 'BC:24:11', ...(await lab.datacenter.shown()) }
  const told = lab.access.allowed(caller, '/', ['Sys.Audit']) ? all : pick(all, 'tag-style')
  return { ...told, 'allowed-tags': await allowedTags(lab, caller) }
}

const pick = (from: Record<string, unknown>, name: string) =>
  from[name] === undefined ? {} : { [name]: from[name] }

async function setOptions(call: Call): Promise<null> {
  const set = Object.keys(DATACENTER_OPTIONS).filter((name) => call.has(name))
  await call.lab.datacenter.change(
    Object.fromEntries(set.map((name) => [name, call.need(name)])),
    splitList(call.text('delete') ?? ''),
  )
  return null
}

export const CLUSTER_ROUTES: readonly Route[] = [
  get('/version', 'all', {}, ({ lab }) => lab.pve.version),
  get('/cluster', 'all', {}, () =>
    ['nextid', 'options', 'resources', 'status', 'tasks'].map((name) => ({ name })),
  ),
  get('/cluster/nextid', 'all', { vmid: optional(VMID) }, nextId),
  get('/cluster/options', 'all', {}, options),
  put(
    '/cluster/options',
    on('/', 'Sys.Modify'),
    { ...DATACENTER_OPTIONS, delete: optional(formatted('configid-list')) },
    setOptions,
  ),
  get('/cluster/resources', 'all', { type: optional(oneOf('vm', 'storage', 'node', 'sdn')) }, resources),
  get('/cluster/status', on('/', 'Sys.Audit'), {}, clusterStatus),
]
