import type { Access } from './access.ts'

/** What the daemon sets up in a new lab, without HTTP. */
export interface Provision {
  /** root@pam's password */
  rootPassword?: string
  /** roles of our own: name → privileges */
  roles?: Record<string, readonly string[]>
  /** made if missing, with these ACLs and one token */
  users?: readonly {
    userid: string
    comment?: string
    acl: readonly { path: string; role: string; propagate?: boolean }[]
    token?: { id: string; privsep?: boolean; comment?: string }
  }[]
}

export interface Provisioned {
  /** user@realm!id → secret; those of tokens that were there already are made anew, since nobody knows them */
  tokens: Record<string, string>
}

export async function provisionAccess(access: Access, wanted: Provision): Promise<Provisioned> {
  const { state } = access
  for (const [name, privileges] of Object.entries(wanted.roles ?? {})) state.roles[name] = [...privileges]
  const tokens: Record<string, string> = {}
  for (const { userid, comment, acl, token } of wanted.users ?? []) {
    state.users[userid] ??= { enable: 1, expire: 0, groups: [], tokens: {}, ...(comment && { comment }) }
    const subjects = [
      { type: 'user' as const, ugid: userid },
      ...(token?.privsep ? [{ type: 'token' as const, ugid: `${userid}!${token.id}` }] : []),
    ]
    for (const { path, role, propagate = true } of acl) {
      for (const { type, ugid } of subjects) {
        state.acl = state.acl.filter((e) => !(e.path === path && e.ugid === ugid && e.roleid === role))
        state.acl.push({ path, type, ugid, roleid: role, propagate: propagate ? 1 : 0 })
      }
    }
    if (token) {
      const secret = await access.createToken(userid, token.id, {
        expire: 0,
        privsep: token.privsep ? 1 : 0,
        ...(token.comment && { comment: token.comment }),
      })
      tokens[`${userid}!${token.id}`] = secret
    }
  }
  if (wanted.rootPassword !== undefined) await access.setPassword('root@pam', wanted.rootPassword)
  await access.save()
  return { tokens }
}
