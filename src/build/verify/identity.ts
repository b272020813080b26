import type { Entered } from './enter.ts'
import { all, type Facts, one } from './facts.ts'
import type { Result } from './report.ts'

/** That two clones of one template are two machines, and who each was meant to be. */

type Id = 'machine-id' | 'host-keys' | 'hostname' | 'address' | 'secrets' | 'private-keys'

const TITLES: Record<Id, string> = {
  'machine-id': 'each clone has a machine-id of its own',
  'host-keys': 'each clone has SSH host keys of its own',
  hostname: 'each clone is called as it was told',
  address: 'each clone has the address and the card that it was given',
  secrets: 'no secret and no identifier of the system is in both clones',
  'private-keys': 'no private key is in both clones, but where the definition puts one',
}

export interface Looked {
  entered: Entered
  /** missing: seen from outside only */
  facts?: Facts
}

/** @param written paths that the definition and its parents put files at */
export function judgeIdentity(a: Looked, b: Looked, written: readonly string[]): Result[] {
  const both = a.facts !== undefined && b.facts !== undefined ? { a: a.facts, b: b.facts } : undefined
  const found: Record<Id, string | undefined> = {
    'machine-id': both ? machineIds(both.a, both.b) : undefined,
    'host-keys': hostKeys(a.entered.hostKeys, b.entered.hostKeys),
    hostname: both ? hostnames([a, b]) : undefined,
    address: addresses([a, b]),
    secrets: both ? secrets(both.a, both.b) : undefined,
    'private-keys': both ? privateKeys(both.a, both.b, written) : undefined,
  }
  const outside = a.entered.outside ?? b.entered.outside
  return (Object.keys(TITLES) as Id[]).map((id) => {
    const skipped = both === undefined && id !== 'host-keys' && id !== 'address'
    const finding = skipped ? `it can be seen from inside only: ${outside}` : found[id]
    return {
      group: 'identity',
      id,
      title: TITLES[id],
      sources: [],
      outcome: skipped ? 'skipped' : finding === undefined ? 'passed' : 'failed',
      ...(finding !== undefined && { found: finding }),
    }
  })
}

function machineIds(a: Facts, b: Facts): string | undefined {
  const [own, other] = [one(a, 'machine-id'), one(b, 'machine-id')]
  if (own === other && own !== '') return `/etc/machine-id is ${own} in both: it is in the template`
  const wrong = [own, other].filter((id) => !/^[0-9a-f]{32}$/.test(id))
  return wrong.length === 0 ? undefined : `/etc/machine-id holds ${JSON.stringify(wrong[0])}`
}

/** By type: two machines share one key, and all else is different. */
function hostKeys(a: readonly string[], b: readonly string[]): string | undefined {
  const shared = a.filter((key) => b.includes(key))
  if (a.length === 0 || b.length === 0) return 'a clone shows none'
  return shared.length === 0
    ? undefined
    : `both have the same ${shared.map((key) => key.split(' ')[0]).join(', ')} key: it is in the template`
}

function hostnames(clones: readonly Looked[]): string | undefined {
  const wrong = clones.flatMap(({ entered: { clone }, facts }) => {
    const name = facts && one(facts, 'hostname')
    return name === clone.name ? [] : [`${clone.role} is called ${name}, and was told to be ${clone.name}`]
  })
  return wrong.length === 0 ? undefined : wrong.join('\n')
}

function addresses(clones: readonly Looked[]): string | undefined {
  const wrong: string[] = []
  for (const { entered, facts } of clones) {
    if (facts === undefined) continue
    const { address, clone } = entered
    const has = one(facts, 'addresses')
      .split('\n')
      .map((one) => one.replace(/\/.*/, ''))
    if (!has.includes(address))
      wrong.push(`${clone.role} has ${has.join(', ') || 'no address'} instead of ${address}`)
    const cards = one(facts, 'cards').toLowerCase().split('\n')
    if (!cards.includes(clone.identity.mac.toLowerCase()))
      wrong.push(`${clone.role} has no card ${clone.identity.mac}`)
  }
  const [first, second] = clones
  if (first?.entered.address === second?.entered.address) wrong.push(`both have ${first?.entered.address}`)
  return wrong.length === 0 ? undefined : wrong.join('\n')
}

function secrets(a: Facts, b: Facts): string | undefined {
  const shared = all(a, 'secret').filter((secret) => all(b, 'secret').includes(secret))
  if (shared.length === 0) return undefined
  return shared
    .map((secret) => `${secret.split(' ')[0]} is the same in both: it is in the template`)
    .join('\n')
}

/** Each fact is `<SHA-256> <path>`. */
function privateKeys(a: Facts, b: Facts, written: readonly string[]): string | undefined {
  const others = all(b, 'private-key')
  const shared = all(a, 'private-key')
    .filter((key) => others.includes(key))
    .map((key) => key.slice(key.indexOf(' ') + 1))
    .filter((path) => !written.includes(path))
  if (shared.length === 0) return undefined
  return [
    ...shared.map(
      (path) => `${path} is the same in both: it is in the template, and every clone would have it`,
    ),
    'remove it in the last layer and have each clone make its own at its first boot; one that clones shall share is placed by a `file` layer',
  ].join('\n')
}
