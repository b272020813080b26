import type { Token, User } from './access.ts'
import { failure, parameterError } from './errors.ts'
import { splitList } from './formats.ts'
import type { Call } from './router.ts'

/** Users and their tokens. */

export function needUser(call: Call): User {
  const user = call.lab.access.state.users[call.need('userid')]
  if (!user) throw failure(`no such user ('${call.need('userid')}')`)
  return user
}

/** Oneself, or who may change users. */
export function selfOrModify(call: Call): void {
  if (call.caller.userid === call.need('userid') && !call.caller.token) return
  call.require('/access/groups', ['User.Modify'])
}

export function assignFields(call: Call, user: User): void {
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

export function describeUser(userid: string, user: User): Record<string, unknown> {
  const { groups: _groups, password: _password, tokens: _tokens, ...fields } = user
  return { userid, ...fields, 'realm-type': userid.split('@')[1] }
}

export function describeToken(token: Token): Record<string, unknown> {
  const { hash: _hash, ...fields } = token
  return fields
}

export async function createUser(call: Call): Promise<null> {
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

export async function createToken(call: Call): Promise<unknown> {
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

export function needToken(call: Call): Token {
  selfOrModify(call)
  const token = needUser(call).tokens[call.need('tokenid')]
  if (!token) throw failure(`no such token '${call.need('tokenid')}' for user '${call.need('userid')}'`)
  return token
}

/** Changes the state and stores it. */
export function changing(change: (call: Call) => void) {
  return async (call: Call): Promise<null> => {
    change(call)
    await call.lab.access.save()
    return null
  }
}
