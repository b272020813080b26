import type { Client, Fields } from './client.ts'
import { ownUser } from './own.ts'
import type { Target } from './target.ts'

/**
 * The suite's user, who has no privileges until a test grants some, calling with a token of its own.
 * @param tokenid a name for the token, which no other test of the file uses
 */
export async function asOwnUser(
  { client, own }: Target,
  tokenid: string,
  privsep: 0 | 1 = 1,
): Promise<Client> {
  const userid = ownUser(own)
  const known = await client.get(`/access/users/${userid}`)
  if (known.status !== 200) {
    const made = await client.post('/access/users', { userid, comment: 'imagebuild contract suite' })
    if (made.status !== 200) throw new Error(`no user ${userid}: ${made.reason}`)
  }
  const made = await client.post(`/access/users/${userid}/token/${tokenid}`, { privsep })
  if (made.status !== 200) throw new Error(`no token for ${userid}: ${made.reason}`)
  const { value } = made.body.data as { value: string }
  return client.as({ token: `${userid}!${tokenid}=${value}` })
}

/** The suite's user with roles for the time of a test. */
export function ownGrants(target: () => Target) {
  let granted: Fields[] = []
  let clients: Client[] = []
  return {
    /**
     * @param tokenid as for `asOwnUser`
     * @param roles path → roles, separated by commas
     */
    async user(tokenid: string, roles: Record<string, string> = {}): Promise<Client> {
      const user = await asOwnUser(target(), tokenid, 0)
      clients.push(user)
      for (const [path, names] of Object.entries(roles)) {
        const acl = { path, roles: names, users: ownUser(target().own) }
        const { status, reason } = await target().client.put('/access/acl', acl)
        if (status !== 200) throw new Error(`no ${names} on ${path}: ${reason}`)
        granted.push(acl)
      }
      return user
    },
    async takeBack(): Promise<void> {
      for (const acl of granted) await target().client.put('/access/acl', { ...acl, delete: 1 })
      for (const client of clients) await client.close()
      granted = []
      clients = []
    },
  }
}
