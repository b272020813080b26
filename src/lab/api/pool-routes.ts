import { failure } from './errors.ts'
import { splitList } from './formats.ts'
import { wordFor } from './guests/store.ts'
import { boolean, formatted, oneOf, optional, type Rules, string } from './parameters.ts'
import { type Call, del, get, on, post, put, type Route } from './router.ts'

/** /pools, in the old form with the ID in the path and in the new one with a parameter. */

const POOLID = formatted('poolid')
const ALLOCATE = on('/pool/{poolid}', 'Pool.Allocate')
const CHANGE: Rules = {
  'allow-move': optional(boolean()),
  comment: optional(string()),
  delete: optional(boolean()),
  storage: optional(formatted('storage-list')),
  vms: optional(formatted('vmid-list')),
}
const MEMBER_TYPE = optional(oneOf('qemu', 'lxc', 'storage'))

function needPool(call: Call) {
  const pool = call.lab.access.state.pools[call.need('poolid')]
  if (!pool) throw failure(`pool '${call.need('poolid')}' does not exist`)
  return pool
}

function members(call: Call): unknown {
  const pool = needPool(call)
  const type = call.text('type')
  const { lab } = call
  const guests = pool.vms.flatMap((vmid) => {
    const guest = lab.guests.find(vmid)
    if (!guest || (type !== undefined && type !== guest.type)) return []
    const { config } = guest
    const name = config.name ?? config.hostname ?? `${wordFor(guest.type)} ${vmid}`
    const id = `${guest.type}/${vmid}`
    return [{ id, type: guest.type, vmid, node: guest.node, name, template: config.template ?? 0 }]
  })
  const storages = pool.storages.flatMap((storage) =>
    type !== undefined && type !== 'storage'
      ? []
      : [...lab.nodes.keys()].map((node) => ({
          ...{ id: `storage/${node}/${storage}`, type: 'storage', storage, node },
        })),
  )
  return { ...(pool.comment !== undefined && { comment: pool.comment }), members: [...guests, ...storages] }
}

function listPools(call: Call): unknown[] {
  if (call.has('poolid')) {
    call.require(`/pool/${call.need('poolid')}`, ['Pool.Audit'])
    return [{ poolid: call.need('poolid'), ...(members(call) as object) }]
  }
  return Object.entries(call.lab.access.state.pools)
    .filter(([poolid]) => call.allowed(`/pool/${poolid}`, ['Pool.Audit']))
    .map(([poolid, { comment }]) => ({ poolid, ...(comment !== undefined && { comment }) }))
}

async function createPool(call: Call): Promise<null> {
  const { access } = call.lab
  const id = call.need('poolid')
  if (access.state.pools[id]) throw failure(`create pool failed: pool '${id}' already exists`)
  const comment = call.text('comment')
  access.state.pools[id] = { vms: [], storages: [], ...(comment !== undefined && { comment }) }
  await access.save()
  return null
}

async function updatePool(call: Call): Promise<null> {
  const { access } = call.lab
  const pool = needPool(call)
  const id = call.need('poolid')
  const comment = call.text('comment')
  if (comment !== undefined) pool.comment = comment
  for (const vmid of splitList(call.text('vms') ?? '').map(Number)) {
    call.require(`/vms/${vmid}`, ['VM.Allocate'])
    const holder = Object.entries(access.state.pools).find(([, { vms }]) => vms.includes(vmid))
    if (call.flag('delete')) {
      if (holder?.[0] !== id) throw failure(`VM ${vmid} is not a pool member`)
    } else if (holder?.[0] === id) throw failure(`VM ${vmid} is already a pool member`)
    else if (holder && !call.flag('allow-move')) {
      throw failure(`VM ${vmid} belongs already to pool '${holder[0]}'`)
    }
    if (holder) holder[1].vms = holder[1].vms.filter((member) => member !== vmid)
    if (!call.flag('delete')) pool.vms.push(vmid)
  }
  for (const storage of splitList(call.text('storage') ?? '')) {
    call.require(`/storage/${storage}`, ['Datastore.Allocate'])
    const member = pool.storages.includes(storage)
    if (call.flag('delete') !== member) {
      throw failure(`Storage '${storage}' is ${member ? 'already' : 'not'} a pool member`)
    }
    pool.storages = pool.storages.filter((other) => other !== storage)
    if (!call.flag('delete')) pool.storages.push(storage)
  }
  await access.save()
  return null
}

async function deletePool(call: Call): Promise<null> {
  const { access } = call.lab
  const pool = needPool(call)
  const id = call.need('poolid')
  if (pool.vms.length > 0) throw failure(`pool '${id}' is not empty (contains VM ${pool.vms[0]})`)
  if (pool.storages.length > 0)
    throw failure(`pool '${id}' is not empty (contains storage '${pool.storages[0]}')`)
  delete access.state.pools[id]
  access.state.acl = access.state.acl.filter(({ path }) => path !== `/pool/${id}`)
  await access.save()
  return null
}

export const POOL_ROUTES: readonly Route[] = [
  get(
    '/pools',
    'all',
    { poolid: optional(POOLID), type: optional(oneOf('qemu', 'lxc', 'storage')) },
    listPools,
  ),
  post('/pools', ALLOCATE, { comment: optional(string()), poolid: POOLID }, createPool),
  put('/pools', ALLOCATE, { ...CHANGE, poolid: POOLID }, updatePool),
  del('/pools', ALLOCATE, { poolid: POOLID }, deletePool),
  get('/pools/{poolid}', on('/pool/{poolid}', 'Pool.Audit'), { type: MEMBER_TYPE }, members),
  put('/pools/{poolid}', ALLOCATE, CHANGE, updatePool),
  del('/pools/{poolid}', ALLOCATE, {}, deletePool),
]
