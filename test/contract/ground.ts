import type { Owner } from '../../src/pve/marks.ts'
import { hasEnded } from '../../src/pve/owner.ts'
import { parseComment, renderComment } from './held.ts'
import { isOwnVmid, ownPool, ownUser } from './own.ts'
import {
  guestsInRange,
  hasUser,
  membersOf,
  pools,
  type Server,
  strangersIn,
  volumesInRange,
} from './server.ts'
import { tidy } from './tidy.ts'

/**
 * The suite's place on a server. Its pool says that it is taken, by whom, and that what has a VMID of the range is the
 * suite's: it is made where there is nothing in the range, and removed when there is nothing any more.
 */

/** how much of what is in the way is named */
const NAMED = 5

/**
 * Makes the suite's pool, after having removed what a killed run has left. Where this run has it already, it removes
 * what a file of tests has left.
 * @throws an Error that says what is in the way
 */
export async function takeGround(server: Server, owner: Owner): Promise<void> {
  const { own, client } = server
  const pool = ownPool(own)
  const found = (await pools(server)).find(({ poolid }) => poolid === pool)
  if (found === undefined) await assertEmpty(server)
  else {
    await assertTakeable(server, found.comment, owner)
    await clearGround(server)
    if (isSame(parseComment(found.comment)?.owner, owner)) return
    await removePool(server)
  }
  const comment = renderComment({ vmids: own.vmids, owner })
  const made = await client.post('/pools', { poolid: pool, comment })
  if (made.status !== 200) throw new Error(`the suite's pool ${pool} cannot be made: ${made.reason}`)
}

/** Removes all that the suite has made, but keeps its place. @throws an Error that names what is left */
export async function clearGround(server: Server): Promise<void> {
  const left = await tidy(server)
  if (left.length > 0) throw new Error(`the suite leaves something on the server:\n${left.join('\n')}`)
}

/** Removes all that the suite has made, and its pool last of all. @throws an Error that names what is left */
export async function leaveGround(server: Server): Promise<void> {
  await clearGround(server)
  await removePool(server)
}

async function removePool({ client, own }: Server): Promise<void> {
  const { status, reason } = await client.delete('/pools', { poolid: ownPool(own) })
  if (status !== 200) throw new Error(`the suite's pool ${ownPool(own)} cannot be removed: ${reason}`)
}

const isSame = (a: Owner | undefined, b: Owner) =>
  a !== undefined && a.boot === b.boot && a.pids === b.pids && a.pid === b.pid && a.started === b.started

function refuse({ own }: Server, what: readonly string[]): never {
  const { first, last } = own.vmids
  const which = `VMIDs ${first} to ${last} and the name ${own.namespace}`
  const more = what.length > NAMED ? [`and ${what.length - NAMED} more`] : []
  throw new Error(
    `the contract suite needs ${which} for itself, but ${[...what.slice(0, NAMED), ...more].join(', ')}: give it others with IMAGEBUILD_TEST_PVE_VMIDS and IMAGEBUILD_TEST_PVE_NAMESPACE`,
  )
}

async function assertEmpty(server: Server): Promise<void> {
  const guests = await guestsInRange(server)
  const volumes = await volumesInRange(server)
  const found = [
    ...guests.map(({ kind, vmid, node }) => `${kind === 'qemu' ? 'VM' : 'CT'} ${vmid} is on ${node}`),
    ...volumes.map(({ volid, node }) => `there is a volume ${volid} on ${node}`),
    ...((await hasUser(server)) ? [`there is a user ${ownUser(server.own)}`] : []),
  ]
  if (found.length > 0) refuse(server, found)
}

async function assertTakeable(server: Server, comment: string | undefined, owner: Owner): Promise<void> {
  const { own } = server
  const pool = ownPool(own)
  const held = parseComment(comment)
  if (held === undefined) refuse(server, [`there is a pool ${pool} that is not the suite's`])
  const { first, last } = held.vmids
  if (first !== own.vmids.first || last !== own.vmids.last)
    throw new Error(
      `an earlier run of the contract suite had VMIDs ${first} to ${last}, and may have left guests there: run it once with IMAGEBUILD_TEST_PVE_VMIDS=${first}-${last}`,
    )
  if (!isSame(held.owner, owner)) {
    const ended = await hasEnded(held.owner)
    const who = `process ${held.owner.pid} on ${held.owner.host}`
    if (ended === false) throw new Error(`another run of the contract suite is under way: ${who}`)
    if (ended === undefined)
      throw new Error(
        `the pool ${pool} belongs to a run of the contract suite elsewhere, ${who}: if that has ended, run the suite there once more, or remove the pool and its guests`,
      )
  }
  const strangers = await strangersIn(server)
  if (strangers.length > 0)
    refuse(
      server,
      strangers.map(({ vmid, node }) => `guest ${vmid} on ${node} is not in its pool`),
    )
  const outside = (await membersOf(server, pool)).filter((vmid) => !isOwnVmid(own, vmid))
  if (outside.length > 0) refuse(server, [`somebody has put guest ${outside[0]} into its pool`])
}
