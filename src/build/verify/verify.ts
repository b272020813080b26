import type { Check } from '../../definition/check.ts'
import type { ImageSpec } from '../../definition/spec.ts'
import type { LeftOut } from '../../hardening/expand.ts'
import type { Identity } from '../../plan/network.ts'
import type { Claim } from '../../pve/claim-held.ts'
import { readConfig } from '../../pve/guest-ref.ts'
import type { Template } from '../../pve/templates.ts'
import { fingerprint } from '../../ssh/host-key.ts'
import { type Build, during } from '../context.ts'
import { chooseIdentities } from '../identity.ts'
import { certificateSummary, judgeCertificates } from './certificates.ts'
import { runChecks } from './checks.ts'
import { bootClone, type Clone } from './clone.ts'
import { type Entered, enter } from './enter.ts'
import { certificateSeconds, loginsOf } from './enter-container.ts'
import { machineFacts } from './facts.ts'
import { judgeHealth } from './health.ts'
import { judgeIdentity, type Looked } from './identity.ts'
import { findLeftovers, writtenPaths } from './leftovers.ts'
import { TITLES } from './login-cases.ts'
import type { OwnKeys } from './own-keys.ts'
import { removeAbandoned } from './private-folder.ts'
import { type CloneFacts, type Report, type Result, summarize } from './report.ts'
import type { Signer } from './signer.ts'
import { judgeSshServer } from './ssh-server.ts'
import { undisturbed } from './undisturbed.ts'

export type { Report } from './report.ts'
export type { Signer } from './signer.ts'

export interface VerifyRequest {
  template: Template
  image: ImageSpec
  /** the definitions of its parents, as far as they are known */
  ancestors?: readonly ImageSpec[]
  version: string
  checks: readonly Check[]
  /** what the hardening leaves out, for the report */
  left: readonly LeftOut[]
  ssh: {
    /** public key lines of the configured user CAs */
    ca: readonly string[]
    /** names in a certificate, by user */
    principals: Readonly<Record<string, readonly string[]>>
    /** signs for one of them, where its key is at hand */
    signer?: Signer
    /** of users of the definition: containers may be entered by them */
    keys: OwnKeys
  }
}

const ROLES = ['verify-a', 'verify-b'] as const

/**
 * Boots two clones of a finished template, each with an identity of its own, looks into both and compares
 * them. Both are gone afterwards, whatever happens.
 * @returns what was found, good or bad
 * @throws ImagebuildError where a clone does not come up, or cannot be asked any more
 */
export async function verify(build: Build, claim: Claim, request: VerifyRequest): Promise<Report> {
  await removeAbandoned()
  const identities = await chooseIdentities(build, claim, ROLES)
  const isGood = ({ summary }: Report) => summary.failed === 0
  return await undisturbed(build, () => verifyOnce(build, identities, request), isGood)
}

async function verifyOnce(
  build: Build,
  identities: Record<(typeof ROLES)[number], Identity>,
  request: VerifyRequest,
): Promise<Report> {
  const started = performance.now()
  const { template, image, version, left, ssh } = request
  const made: AsyncDisposable[] = []
  await using owned = new AsyncDisposableStack()
  owned.defer(async () => void (await Promise.all(made.map((clone) => clone[Symbol.asyncDispose]()))))
  const make = (role: CloneFacts['role'], part: Build) =>
    bootClone(part, { image, template, role, identity: identities[role] })
  const certificates = ssh.signer && {
    signer: ssh.signer,
    logins: loginsOf(image, ssh.principals),
    seconds: certificateSeconds(image.build.bootTimeout, request.checks),
  }
  const { logins: keys, without } = ssh.keys
  const doors = { keys, without, ...(certificates && { certificates }) }
  const [a, b] = await during(build, 'verify', 'booting two clones', async () => {
    // Proxmox lets nobody copy a container while it is being copied.
    const creating = image.kind === 'lxc' ? inTurn : together
    const clones = await creating(build, ROLES, async (role, part) => {
      const clone = await make(role, part)
      made.push(clone)
      return clone
    })
    return (await together(build, clones, async (clone, part) =>
      owned.use(await enter(part, clone, doors)),
    )) as [Entered, Entered]
  })
  const settle = image.build.bootTimeout
  const [lookedA, lookedB] = (await during(build, 'verify', 'looking who they are', async () =>
    together(build, [a, b], async (entered, part): Promise<Looked> => {
      if (entered.inside === undefined) return { entered }
      const { examiner } = entered.inside
      return { entered, facts: await machineFacts(examiner, settle, part.signal) }
    }),
  )) as [Looked, Looked]
  const results = [
    ...judgeIdentity(lookedA, lookedB, writtenPaths([image, ...(request.ancestors ?? [])])),
    ...(await during(build, 'verify', 'looking into it', () => examine(build, [lookedA, lookedB], request))),
    ...left.map(
      ({ id, title, sources, because, reason }): Result => ({
        group: 'checks',
        id,
        title,
        sources,
        outcome: because,
        found: reason,
      }),
    ),
  ]
  const { kind, node, vmid } = template
  return {
    schema: 1,
    image: image.name,
    version,
    template: { kind, node, vmid },
    at: new Date().toISOString(),
    seconds: (performance.now() - started) / 1000,
    summary: summarize(
      results,
      certificateSummary(ssh.ca, results, a),
      a.inside === undefined ? 'not verified' : 'verified',
    ),
    clones: [a, b].map(factsOf),
    results,
  }
}

/**
 * What can be seen in the clones. The first is asked most, and its SSH server is changed last, for the logins; meanwhile what
 * the build has left is looked for in the second, which has the same of the template.
 */
async function examine(
  build: Build,
  [first, second]: readonly [Looked, Looked],
  request: VerifyRequest,
): Promise<Result[]> {
  const { checks, image, ssh } = request
  const { entered, facts } = first
  const { inside, outside = '' } = entered
  const other = second.entered.inside
  if (inside === undefined || other === undefined || facts === undefined)
    return unseen(entered, outside, checks)
  const askFirst = async ({ signal }: Build) => [
    ...(await runChecks(inside.examiner, checks, { signal })),
    ...(await judgeSshServer({ client: entered.client, inside }, signal)),
    ...(await judgeCertificates(entered, { ...ssh, revokes: revokes(image, ssh.ca), checks, signal })),
  ]
  const askSecond = (part: Build) => lookForLeftovers(part, second.entered.clone, other, request)
  const [seen, left] = (await together(build, [askFirst, askSecond], (ask, part) => ask(part))) as [
    Result[],
    Result[],
  ]
  return [...(await judgeHealth(facts, entered.clone.guest)), ...left, ...seen]
}

async function lookForLeftovers(
  { pve, signal }: Build,
  { guest, access }: Clone,
  { examiner, user }: NonNullable<Entered['inside']>,
  { image, ancestors = [] }: VerifyRequest,
): Promise<Result[]> {
  // The key that a virtual machine was given, and a container was not.
  const publicKey = guest.kind === 'vm' ? access.userKey.publicKey : ''
  const config = await readConfig(pve, guest)
  return await findLeftovers(examiner, { image, ancestors, login: { user, publicKey }, config, signal })
}

/** With a CA there is always a list, if an empty one. */
function revokes({ ssh }: ImageSpec, ca: readonly string[]): boolean {
  return ca.length > 0 || ssh.revokedKeys !== undefined
}

/** A clone that nobody got into: what was not asked is not passed. */
function unseen({ refused, loggedIn }: Entered, why: string, checks: readonly Check[]): Result[] {
  const inside: Result = {
    group: refused ? 'certificates' : 'health',
    id: refused ? 'configured-ca' : 'inside',
    title: refused ? TITLES['configured-ca'] : 'what is in it',
    sources: [],
    outcome: refused ? 'failed' : 'skipped',
    found: why,
  }
  const login = loggedIn && { ...LOGINS[loggedIn.by], sources: [], outcome: 'passed' as const }
  const asked = checks.map(
    ({ id, title, sources, where }): Result => ({
      group: 'checks',
      id,
      title,
      sources,
      ...(where && { where }),
      outcome: 'skipped',
      found: 'nobody could look into the clone',
    }),
  )
  return [...(login ? [login] : []), inside, ...asked]
}

/** What is known of a clone that lets in somebody who may see nothing. */
const LOGINS = {
  certificate: { group: 'certificates', id: 'configured-ca', title: TITLES['configured-ca'] },
  key: { group: 'health', id: 'login', title: 'a user of the definition logs in by key' },
} as const

function factsOf({ clone, address, hostKeys, trust, outside }: Entered): CloneFacts {
  return {
    role: clone.role,
    vmid: clone.guest.vmid,
    name: clone.name,
    mac: clone.identity.mac,
    address,
    hostKey: { fingerprint: fingerprint(hostKeys[0] as string), trust },
    ...(outside !== undefined && { outside }),
  }
}

/** All at once. Where one fails, the others are stopped, and have ended when this throws. */
async function together<T, R>(
  build: Build,
  things: readonly T[],
  work: (thing: T, part: Build) => Promise<R>,
): Promise<R[]> {
  const stop = new AbortController()
  const signal = AbortSignal.any([build.signal, stop.signal])
  const part = { ...build, signal, pve: build.pve.withSignal(signal) }
  let first: { reason: unknown } | undefined
  const settled = await Promise.all(
    things.map((thing) =>
      work(thing, part).catch((reason) => {
        first ??= { reason }
        stop.abort(reason)
        return undefined as R
      }),
    ),
  )
  if (first !== undefined) throw first.reason
  return settled
}

async function inTurn<T, R>(
  build: Build,
  things: readonly T[],
  work: (thing: T, part: Build) => Promise<R>,
): Promise<R[]> {
  const done: R[] = []
  for (const thing of things) done.push(await work(thing, build))
  return done
}
