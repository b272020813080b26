import { Client, type Reply } from './client.ts'
import { readHeld, type TagRules, writeHeld } from './held.ts'
import { read, type Server } from './server.ts'

/** The cluster's rules about tags: a test may change them for a while, and the run that tidies up puts them back. */

export const TAG_RULE_NAMES = ['registered-tags', 'user-tag-access'] as const

/**
 * Sets these, and takes off the others. Before its first change the suite's pool remembers what was there.
 * @throws an Error where it cannot be remembered
 */
export async function setTagRules(server: Server, rules: TagRules): Promise<Reply> {
  const held = await readHeld(server)
  if (held === undefined) throw new Error('the suite has no pool that could remember the rules about tags')
  if (held.tagRules === undefined) {
    const { status, reason } = await writeHeld(server, { ...held, tagRules: await currentRules(server) })
    if (status !== 200) throw new Error(`the rules about tags cannot be remembered: ${reason}`)
  }
  return put(server.client, rules)
}

/** What the pool remembers is set again, and forgotten. @returns why not, where that fails */
export async function restoreTagRules(server: Server): Promise<string | undefined> {
  const held = await readHeld(server)
  if (held?.tagRules === undefined) return undefined
  const { base, fingerprint, credentials, own } = server.client
  // An earlier run was allowed to change them, so this one may put them back, also without TAG_RULES of its own.
  const client = new Client(base, fingerprint, credentials, own && { ...own, tagRules: true })
  try {
    const { tagRules, ...rest } = held
    const restored = await put(client, tagRules)
    if (restored.status !== 200) return restored.reason
    const forgotten = await writeHeld(server, rest)
    return forgotten.status === 200 ? undefined : forgotten.reason
  } finally {
    await client.close()
  }
}

function put(client: Client, rules: TagRules): Promise<Reply> {
  const unset = TAG_RULE_NAMES.filter((name) => rules[name] === undefined)
  return client.put('/cluster/options', { ...rules, ...(unset.length > 0 && { delete: unset.join(',') }) })
}

/** Answers have lists and objects where PUT takes text. */
async function currentRules({ client }: Server): Promise<TagRules> {
  const options = await read<{
    'registered-tags'?: string[]
    'user-tag-access'?: Record<string, string | string[]>
  }>(client, '/cluster/options')
  const { 'registered-tags': registered, 'user-tag-access': access } = options
  return {
    ...(registered && { 'registered-tags': registered.join(';') }),
    ...(access && {
      'user-tag-access': Object.entries(access)
        .map(([name, value]) => `${name}=${[value].flat().join(';')}`)
        .join(','),
    }),
  }
}
