import { parameterError } from './errors.ts'
import { GuestRows } from './guests/rows.ts'
import { wordFor } from './guests/store.ts'
import { nodeRow } from './node-routes.ts'
import { oneOf, optional } from './parameters.ts'
import { type Call, get, type Lab, on, type Route, VMID } from './router.ts'
import { storageRow } from './storage-routes.ts'
import { VERSION } from './version.ts'

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
    const guests = lab.guests.all()
    guestRows(lab).forget(new Set(guests.map(({ vmid }) => vmid)))
    for (const guest of guests) {
      if (call.allowed(`/vms/${guest.vmid}`, ['VM.Audit'])) found.push(await guestRows(lab).row(lab, guest))
    }
  }
  if (type === undefined || type === 'node') found.push({ id: `node/${lab.node}`, ...(await nodeRow(lab)) })
  if (type === undefined || type === 'storage') {
    for (const storage of lab.storages.values()) {
      if (!call.allowed(`/storage/${storage.id}`, ['Datastore.Audit'])) continue
      const { total, used } = await storageRow(storage)
      found.push({
        ...{ id: `storage/${lab.node}/${storage.id}`, type: 'storage', storage: storage.id, node: lab.node },
        ...{ status: 'available', plugintype: storage.type, content: storage.content.join(','), shared: 0 },
        ...{ disk: used, maxdisk: total },
      })
    }
  }
  if (type === undefined || type === 'sdn') {
    const zone = {
      id: `sdn/${lab.node}/localnetwork`,
      sdn: 'localnetwork',
      type: 'sdn',
      node: lab.node,
      status: 'ok',
    }
    if (call.allowed('/sdn/zones/localnetwork', ['SDN.Audit', 'SDN.Use'], true)) found.push(zone)
  }
  return found
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

export const CLUSTER_ROUTES: readonly Route[] = [
  get('/version', 'all', {}, () => VERSION),
  get('/cluster', 'all', {}, () =>
    ['nextid', 'options', 'resources', 'status', 'tasks'].map((name) => ({ name })),
  ),
  get('/cluster/nextid', 'all', { vmid: optional(VMID) }, nextId),
  get('/cluster/options', 'all', {}, () => ({ mac_prefix: 'BC:24:11' })),
  get('/cluster/resources', 'all', { type: optional(oneOf('vm', 'storage', 'node', 'sdn')) }, resources),
  get('/cluster/status', on('/', 'Sys.Audit'), {}, ({ lab }) => [
    {
      ...{ id: `node/${lab.node}`, type: 'node', name: lab.node, nodeid: 0, local: 1, online: 1, level: '' },
      ip: lab.bridges[0]?.address ?? '127.0.0.1',
    },
  ]),
]
