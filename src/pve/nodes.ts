import { closest } from '../core/did-you-mean.ts'
import { ImagebuildError } from '../core/errors.ts'
import type { Pve } from './client.ts'
import { PveError } from './errors.ts'

/**
 * Whether nodes that somebody names exist. Proxmox looks a name that it does not know up in DNS, and answers 500
 * "hostname lookup 'pvx' failed" to whatever was asked of that node.
 */

/**
 * @param nodes as imagebuild.yaml has them
 * @throws ImagebuildError `definition_invalid` that says which do not exist, and which do
 */
export async function requireNodesOfTarget(
  pve: Pve,
  target: string,
  nodes: readonly string[],
): Promise<void> {
  const found = await findUnknown(pve, nodes)
  if (found === undefined) return
  const { unknown, why, hint } = found
  const named = unknown.length === 1 ? `is no node ${unknown[0]}` : `are no nodes ${unknown.join(', ')}`
  throw new ImagebuildError({
    code: 'definition_invalid',
    what: `there ${named} for target ${target}`,
    why,
    next: `${hint}correct \`node\` or \`nodes\` of target ${target} in imagebuild.yaml`,
  })
}

/**
 * @param node as the command line has it
 * @throws ImagebuildError `not_found` that says which nodes there are
 */
export async function requireNode(pve: Pve, node: string): Promise<void> {
  const found = await findUnknown(pve, [node])
  if (found === undefined) return
  const { why, hint } = found
  throw new ImagebuildError({
    code: 'not_found',
    what: `there is no node ${node}`,
    why,
    next: `${hint}give --node one of them`,
  })
}

interface Unknown {
  unknown: readonly string[]
  why: string
  /** `did you mean …? `, or nothing where no name is close */
  hint: string
}

async function findUnknown(pve: Pve, named: readonly string[]): Promise<Unknown | undefined> {
  const known = await nodeNames(pve)
  if (known === undefined) return undefined
  const unlisted = named.filter((node) => !known.includes(node))
  const answered = await Promise.all(unlisted.map((node) => answers(pve, node)))
  const unknown = unlisted.filter((_, index) => !answered[index])
  if (unknown.length === 0) return undefined
  const guesses = unknown.flatMap((node) => {
    const guess = closest(node, known)
    return guess === undefined ? [] : [unknown.length === 1 ? `\`${guess}\`` : `\`${guess}\` for ${node}`]
  })
  return {
    unknown,
    why: `the nodes at ${pve.endpoint} are ${known.join(', ')}`,
    hint: guesses.length === 0 ? '' : `did you mean ${guesses.join(', ')}? `,
  }
}

/** Names of all nodes, which Proxmox shows to everybody who is logged in; undefined where it will not. */
async function nodeNames(pve: Pve): Promise<string[] | undefined> {
  try {
    const rows = await pve.api.nodes.$get()
    return rows.length === 0 ? undefined : rows.map(({ node }) => node).sort()
  } catch (error) {
    if (isRefusal(error)) return undefined
    throw error
  }
}

/** What answers exists, listed or not: `localhost`, say. */
async function answers(pve: Pve, node: string): Promise<boolean> {
  try {
    await pve.api.nodes.$(node).version.$get()
    return true
  } catch (error) {
    if (isRefusal(error)) return false
    throw error
  }
}

/** Proxmox has answered, if not with what was asked for. */
function isRefusal(error: unknown): boolean {
  return error instanceof PveError && error.delivery === 'answered'
}
