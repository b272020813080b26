import { failure, parameterError, permissionError, unauthorized } from './errors.ts'
import { splitList } from './formats.ts'
import { boolean, formatted, integer, optional, type Rules, string } from './parameters.ts'
import { type Call, type Check, del, get, on, post, put, type Route } from './router.ts'
import {
  assignFields,
  changing,
  createToken,
  createUser,
  describeToken,
  describeUser,
  needToken,
  needUser,
  selfOrModify,
} from './users.ts'

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
]
