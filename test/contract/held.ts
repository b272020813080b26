import type { Owner } from '../../src/pve/marks.ts'
import type { Reply } from './client.ts'
import { type Own, ownPool } from './own.ts'
import { pools, type Server } from './server.ts'

/** What the comment of the suite's pool says: a run that is killed leaves it to the next. */

const MARK = 'imagebuild contract suite'

export interface Held {
  vmids: Own['vmids']
  owner: Owner
  /** as Proxmox had them before the suite changed them; undefined: it has not */
  tagRules?: TagRules
}

/** Options of the cluster, as PUT takes them; one that is missing is not set. */
export interface TagRules {
  'registered-tags'?: string
  'user-tag-access'?: string
}

export const renderComment = (held: Held): string => `${MARK} ${JSON.stringify(held)}`

export function parseComment(comment = ''): Held | undefined {
  if (!comment.startsWith(`${MARK} `)) return undefined
  try {
    return JSON.parse(comment.slice(MARK.length)) as Held
  } catch {
    return undefined
  }
}

/** undefined where the suite has no pool */
export async function readHeld(server: Server): Promise<Held | undefined> {
  const pool = (await pools(server)).find(({ poolid }) => poolid === ownPool(server.own))
  return parseComment(pool?.comment)
}

export function writeHeld({ client, own }: Server, held: Held): Promise<Reply> {
  return client.put('/pools', { poolid: ownPool(own), comment: renderComment(held) })
}
