import { failure, parameterError } from './errors.ts'
import { splitList } from './formats.ts'
import { boolean, formatted, optional, string } from './parameters.ts'
import { type Call, del, get, on, post, put, type Route } from './router.ts'
import { changing } from './users.ts'

/** /access/roles and /access/groups */

async function saveRole(call: Call, isNew: boolean): Promise<null> {
  const { access } = call.lab
  const id = call.need('roleid')
  if (id in access.privileges.builtInRoles && !isNew)
    throw failure(`auto-generated role '${id}' cannot be modified`)
  if (isNew && access.roles()[id]) throw failure(`create role failed: role '${id}' already exists`)
  if (!isNew && !access.state.roles[id]) throw failure(`role '${id}' does not exist`)
  const privileges = splitList(call.text('privs') ?? '')
  const unknown = privileges.find((name) => !access.privileges.all.includes(name))
  if (unknown !== undefined) {
    throw parameterError({ privs: `invalid format - invalid privilege '${unknown}'\n` })
  }
  const kept = call.flag('append') ? (access.state.roles[id] ?? []) : []
  access.state.roles[id] = [...new Set([...kept, ...privileges])]
  await access.save()
  return null
}

function needRole(call: Call): readonly string[] {
  const role = call.lab.access.roles()[call.need('roleid')]
  if (!role) throw failure(`role '${call.need('roleid')}' does not exist`)
  return role
}

export const ROLE_ROUTES: readonly Route[] = [
  get('/access/roles', 'all', {}, (call) =>
    Object.entries(call.lab.access.roles()).map(([roleid, privileges]) => ({
      roleid,
      privs: privileges.join(','),
      ...(roleid in call.lab.access.privileges.builtInRoles && { special: 1 }),
    })),
  ),
  post(
    '/access/roles',
    on('/access', 'Sys.Modify'),
    { privs: optional(formatted('privilege-list')), roleid: formatted('role') },
    (call) => saveRole(call, true),
  ),
  get('/access/roles/{roleid}', 'all', {}, (call) =>
    Object.fromEntries(needRole(call).map((name) => [name, 1])),
  ),
  put(
    '/access/roles/{roleid}',
    on('/access', 'Sys.Modify'),
    { append: optional(boolean({ requires: 'privs' })), privs: optional(formatted('privilege-list')) },
    (call) => saveRole(call, false),
  ),
  del(
    '/access/roles/{roleid}',
    on('/access', 'Sys.Modify'),
    {},
    changing((call) => {
      const id = call.need('roleid')
      if (id in call.lab.access.privileges.builtInRoles)
        throw failure(`auto-generated role '${id}' can not be deleted`)
      needRole(call)
      delete call.lab.access.state.roles[id]
      call.lab.access.state.acl = call.lab.access.state.acl.filter(({ roleid }) => roleid !== id)
    }),
  ),

  get('/access/groups', 'all', {}, (call) => {
    const { groups, users } = call.lab.access.state
    return Object.entries(groups).map(([groupid, group]) => ({
      groupid,
      ...group,
      users: Object.keys(users)
        .filter((id) => users[id]?.groups.includes(groupid))
        .join(','),
    }))
  }),
  post(
    '/access/groups',
    on('/access/groups', 'Group.Allocate'),
    { comment: optional(string()), groupid: formatted('group') },
    changing((call) => {
      const id = call.need('groupid')
      const { groups } = call.lab.access.state
      if (groups[id]) throw failure(`create group failed: group '${id}' already exists`)
      groups[id] = call.has('comment') ? { comment: call.need('comment') } : {}
    }),
  ),
  del(
    '/access/groups/{groupid}',
    on('/access/groups', 'Group.Allocate'),
    {},
    changing((call) => {
      const id = call.need('groupid')
      const { state } = call.lab.access
      if (!state.groups[id]) throw failure(`group '${id}' does not exist`)
      delete state.groups[id]
      for (const user of Object.values(state.users)) user.groups = user.groups.filter((group) => group !== id)
      state.acl = state.acl.filter(({ type, ugid }) => type !== 'group' || ugid !== id)
    }),
  ),
]
