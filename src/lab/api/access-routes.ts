import type { Token, User } from './access.ts'
import { failure, parameterError, permissionError, unauthorized } from './errors.ts'
import { splitList } from './formats.ts'
import { boolean, formatted, integer, optional, type Rules, string } from './parameters.ts'
import { BUILT_IN_ROLES, PRIVILEGES } from './privileges.ts'
import { type Call, type Check, del, get, on, post, put, type Route } from './router.ts'

/** /access …: logins, users, tokens, roles, groups, ACLs. */

const MODIFY: Check = on('/access/groups', 'User.Modify')
const USER_FIELDS: Rules = {
  comment: optional(string({ maxLength: 2048 })),
  email: optional(formatted('email', { maxLength: 254 })),
  enable: optional(boolean()),
  expire: optional(integer({ minimum: 0 })),
  firstname: optional(string({ maxLength: 1024 })),
  groups: optional(formatted('group-list')),
  keys: optional(string({ pattern: /^[0-9a-zA-Z!=]{0,4096}$/ })),
  lastname: optional(string({ maxLength: 1024 })),
}
const TOKEN_FIELDS: Rules = {
  comment: optional(string()),
  expire: optional(integer({ minimum: 0 })),
  privsep: optional(boolean()),
}
const TICKET: Rules = {
  'new-format': optional(boolean()),
  otp: optional(string()),
  password: string(),
  path: optional(string({ maxLength: 64, requires: 'privs' })),
  privs: optional(formatted('privilege-list', { maxLength: 64, requires: 'path' })),
  realm: optional(formatted('realm', { maxLength: 32 })),
  'tfa-challenge': optional(string()),
  username: string({ maxLength: 64 }),
}

async function login(call: Call): Promise<unknown> {
  const { access } = call.lab
  const realm = call.text('realm')
  const userid = realm === undefined ? call.need('username') : `${call.need('username')}@${realm}`
  if (!(await access.authenticate(userid, call.need('password'))))
    throw unauthorized('authentication failure')
  return {
    username: userid,
    ticket: access.ticket('PVE', userid),
    CSRFPreventionToken: access.csrfToken(userid),
    cap: access.capabilities(userid),
  }
}

function needUser(call: Call): User {
  const user = call.lab.access.state.users[call.need('userid')]
  if (!user) throw failure(`no such user ('${call.need('userid')}')`)
  return user
}

/** Oneself, or who may change users. */
function selfOrModify(call: Call): void {
  if (call.caller.userid === call.need('userid') && !call.caller.token) return
  call.require('/access/groups', ['User.Modify'])
}

function assignFields(call: Call, user: User): void {
  for (const name of ['comment', 'email', 'firstname', 'lastname'] as const) {
    const value = call.text(name)
    if (value !== undefined) user[name] = value
  }
  if (call.has('enable')) user.enable = call.flag('enable') ? 1 : 0
  user.expire = call.number('expire') ?? user.expire
  if (call.has('groups')) {
    const groups = splitList(call.need('groups'))
    const unknown = groups.find((group) => !call.lab.access.state.groups[group])
    if (unknown !== undefined) throw failure(`no such group '${unknown}'`)
    user.groups = call.flag('append') ? [...new Set([...user.groups, ...groups])] : groups
  }
}

function describeUser(userid: string, user: User): Record<string, unknown> {
  const { groups: _groups, password: _password, tokens: _tokens, ...fields } = user
  return { userid, ...fields, 'realm-type': userid.split('@')[1] }
}

function describeToken(token: Token): Record<string, unknown> {
  const { hash: _hash, ...fields } = token
  return fields
}

async function createUser(call: Call): Promise<null> {
  const userid = call.need('userid')
  const { access } = call.lab
  if (access.state.users[userid]) throw failure(`create user failed: user '${userid}' already exists`)
  const user: User = { enable: 1, expire: 0, groups: [], tokens: {} }
  assignFields(call, user)
  access.state.users[userid] = user
  const password = call.text('password')
  if (password !== undefined) await access.setPassword(userid, password)
  await access.save()
  return null
}

async function createToken(call: Call): Promise<unknown> {
  selfOrModify(call)
  const user = needUser(call)
  const id = call.need('tokenid')
  if (user.tokens[id]) throw parameterError({ tokenid: 'Token already exists.' })
  const comment = call.text('comment')
  const privsep = call.flag('privsep', true) ? 1 : 0
  const expire = call.number('expire') ?? user.expire
  const value = await call.lab.access.createToken(call.need('userid'), id, {
    privsep,
    expire,
    ...(comment !== undefined && { comment }),
  })
  const info = { privsep, ...(comment !== undefined && { comment }), ...(call.has('expire') && { expire }) }
  return { 'full-tokenid': `${call.need('userid')}!${id}`, value, info }
}

function needToken(call: Call): Token {
  selfOrModify(call)
  const token = needUser(call).tokens[call.need('tokenid')]
  if (!token) throw failure(`no such token '${call.need('tokenid')}' for user '${call.need('userid')}'`)
  return token
}

async function updateAcl(call: Call): Promise<null> {
  const { access } = call.lab
  const path = call.need('path').replace(/(?<=.)\/+$/, '')
  if (!/^\/(?:access|nodes|pool|sdn|storage|vms|mapping|$)/.test(path)) {
    throw parameterError({ path: `invalid ACL path '${path}'` })
  }
  const mayModify = call.allowed(path, ['Permissions.Modify'])
  if (!mayModify) throw permissionError(`${path}, Permissions.Modify`)
  const subjects = (['user', 'group', 'token'] as const).flatMap((type) =>
    splitList(call.text(`${type}s`) ?? '').map((ugid) => ({ type, ugid })),
  )
  if (subjects.length === 0) {
    const text = "either 'users', 'groups' or 'tokens' is required."
    throw parameterError({ users: text, groups: text, tokens: text })
  }
  const roles = splitList(call.need('roles'))
  for (const role of roles) if (!access.roles()[role]) throw failure(`role '${role}' does not exist`)
  for (const { type, ugid } of subjects) {
    const [userid = '', tokenid] = ugid.split('!', 2)
    if (type === 'group' ? !access.state.groups[ugid] : !access.state.users[userid]) {
      throw failure(
        `${type === 'group' ? 'group' : 'user'} '${type === 'group' ? ugid : userid}' does not exist`,
      )
    }
    if (type === 'token' && !access.state.users[userid]?.tokens[tokenid as string]) {
      throw failure(`no such token '${tokenid}' for user '${userid}'`)
    }
    for (const roleid of roles) {
      access.state.acl = access.state.acl.filter(
        (e) => !(e.path === path && e.type === type && e.ugid === ugid && e.roleid === roleid),
      )
      if (!call.flag('delete')) {
        access.state.acl.push({ path, type, ugid, roleid, propagate: call.flag('propagate', true) ? 1 : 0 })
      }
    }
  }
  await access.save()
  return null
}

function showPermissions(call: Call): unknown {
  const { access } = call.lab
  const { authid } = call.caller
  const userid = call.text('userid') ?? authid
  if (userid !== authid && !userid.startsWith(`${authid}!`)) call.require('/access', ['Sys.Audit'])
  return access.effective(userid, call.text('path'))
}

async function saveRole(call: Call, isNew: boolean): Promise<null> {
  const { access } = call.lab
  const id = call.need('roleid')
  if (id in BUILT_IN_ROLES && !isNew) throw failure(`auto-generated role '${id}' cannot be modified`)
  if (isNew && access.roles()[id]) throw failure(`create role failed: role '${id}' already exists`)
  if (!isNew && !access.state.roles[id]) throw failure(`role '${id}' does not exist`)
  const privileges = splitList(call.text('privs') ?? '')
  const unknown = privileges.find((name) => !PRIVILEGES.includes(name))
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

/** Changes the state and stores it. */
function changing(change: (call: Call) => void) {
  return async (call: Call): Promise<null> => {
    change(call)
    await call.lab.access.save()
    return null
  }
}

export const ACCESS_ROUTES: readonly Route[] = [
  get('/access', 'all', {}, () =>
    ['acl', 'domains', 'groups', 'password', 'permissions', 'roles', 'ticket', 'users'].map((subdir) => ({
      subdir,
    })),
  ),
  get('/access/domains', 'world', {}, () => [
    { realm: 'pam', type: 'pam', comment: 'Linux PAM standard authentication' },
    { realm: 'pve', type: 'pve', comment: 'Proxmox VE authentication server' },
  ]),
  get('/access/ticket', 'world', {}, () => null),
  post('/access/ticket', 'world', TICKET, login, { token: false }),
  put(
    '/access/password',
    'all',
    {
      'confirmation-password': optional(string({ minLength: 5, maxLength: 64 })),
      password: string({ minLength: 8, maxLength: 64 }),
      userid: formatted('user', { maxLength: 64 }),
    },
    async (call) => {
      selfOrModify(call)
      needUser(call)
      await call.lab.access.setPassword(call.need('userid'), call.need('password'))
      return null
    },
    { token: false },
  ),
  get(
    '/access/permissions',
    'all',
    {
      path: optional(string()),
      userid: optional(string({ pattern: /^[^\s:/]+@[A-Za-z][\w.-]+(?:![A-Za-z][\w.-]+)?$/ })),
    },
    showPermissions,
  ),
  get('/access/acl', 'all', {}, (call) =>
    call.lab.access.state.acl.filter(
      ({ path }) =>
        call.allowed('/access', ['Sys.Audit', 'Permissions.Modify'], true) ||
        call.allowed(path, ['Permissions.Modify']),
    ),
  ),
  put(
    '/access/acl',
    'all',
    {
      delete: optional(boolean()),
      groups: optional(formatted('group-list')),
      path: string(),
      propagate: optional(boolean()),
      roles: formatted('role-list'),
      tokens: optional(formatted('token-list')),
      users: optional(formatted('user-list')),
    },
    updateAcl,
  ),

  get('/access/users', 'all', { enabled: optional(boolean()), full: optional(boolean()) }, (call) =>
    Object.entries(call.lab.access.state.users)
      .filter(
        ([id]) =>
          id === call.caller.userid || call.allowed('/access/groups', ['User.Modify', 'Sys.Audit'], true),
      )
      .filter(([, user]) => !call.has('enabled') || Boolean(user.enable) === call.flag('enabled'))
      .map(([id, user]) => ({
        ...describeUser(id, user),
        ...(call.flag('full') && {
          groups: user.groups.join(','),
          tokens: Object.entries(user.tokens).map(([tokenid, token]) => ({
            tokenid,
            ...describeToken(token),
          })),
        }),
      })),
  ),
  post(
    '/access/users',
    { and: [on('/access/groups', 'User.Modify'), on('/access/realm/pve', 'Realm.AllocateUser')] },
    {
      ...USER_FIELDS,
      password: optional(string({ minLength: 8, maxLength: 64 })),
      userid: formatted('user', { maxLength: 64 }),
    },
    createUser,
  ),
  get('/access/users/{userid}', 'all', {}, (call) => {
    if (call.caller.userid !== call.need('userid'))
      call.require('/access/groups', ['User.Modify', 'Sys.Audit'], true)
    const user = needUser(call)
    const tokens = Object.entries(user.tokens).map(([id, token]) => [id, describeToken(token)])
    return {
      ...describeUser(call.need('userid'), user),
      groups: user.groups,
      tokens: Object.fromEntries(tokens),
    }
  }),
  put(
    '/access/users/{userid}',
    MODIFY,
    { ...USER_FIELDS, append: optional(boolean({ requires: 'groups' })) },
    changing((call) => assignFields(call, needUser(call))),
  ),
  del(
    '/access/users/{userid}',
    MODIFY,
    {},
    changing((call) => {
      needUser(call)
      const id = call.need('userid')
      if (id === 'root@pam') throw failure("unable to delete user 'root@pam'")
      const { state } = call.lab.access
      delete state.users[id]
      state.acl = state.acl.filter(({ ugid }) => ugid !== id && !ugid.startsWith(`${id}!`))
    }),
  ),
  get('/access/users/{userid}/token', 'all', {}, (call) => {
    selfOrModify(call)
    return Object.entries(needUser(call).tokens).map(([tokenid, token]) => ({
      tokenid,
      ...describeToken(token),
    }))
  }),
  get('/access/users/{userid}/token/{tokenid}', 'all', {}, (call) => describeToken(needToken(call))),
  post('/access/users/{userid}/token/{tokenid}', 'all', TOKEN_FIELDS, createToken),
  put('/access/users/{userid}/token/{tokenid}', 'all', TOKEN_FIELDS, async (call) => {
    const token = needToken(call)
    const comment = call.text('comment')
    if (comment !== undefined) token.comment = comment
    if (call.has('privsep')) token.privsep = call.flag('privsep') ? 1 : 0
    token.expire = call.number('expire') ?? token.expire
    await call.lab.access.save()
    return describeToken(token)
  }),
  del(
    '/access/users/{userid}/token/{tokenid}',
    'all',
    {},
    changing((call) => {
      needToken(call)
      const { state } = call.lab.access
      delete needUser(call).tokens[call.need('tokenid')]
      state.acl = state.acl.filter(({ ugid }) => ugid !== `${call.need('userid')}!${call.need('tokenid')}`)
    }),
  ),

  get('/access/roles', 'all', {}, (call) =>
    Object.entries(call.lab.access.roles()).map(([roleid, privileges]) => ({
      roleid,
      privs: privileges.join(','),
      ...(roleid in BUILT_IN_ROLES && { special: 1 }),
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
      if (id in BUILT_IN_ROLES) throw failure(`auto-generated role '${id}' can not be deleted`)
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
