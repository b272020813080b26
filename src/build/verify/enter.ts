import { ImagebuildError } from '../../core/errors.ts'
import { DeadlineError, poll, withDeadline } from '../../core/scope.ts'
import type { Check } from '../../definition/check.ts'
import type { ImageSpec } from '../../definition/spec.ts'
import { guestApi } from '../../pve/guest-ref.ts'
import { fingerprint } from '../../ssh/host-key.ts'
import { reachSsh } from '../../ssh/knock.ts'
import type { Build } from '../context.ts'
import { diagnose } from '../diagnose.ts'
import { addressOf, whileRunning } from '../login.ts'
import { CHECK_SECONDS } from './checks.ts'
import type { Clone } from './clone.ts'
import type { Examiner } from './examiner.ts'
import { type Attempt, type Credentials, OpenSshClient, scanHostKeys } from './openssh-client.ts'
import type { Signer } from './signer.ts'

/** A clone that answers, and how far somebody gets into it. */
export interface Entered extends AsyncDisposable {
  clone: Clone
  address: string
  /** public key lines, without comments */
  hostKeys: string[]
  trust: 'guest agent' | 'first use'
  client: OpenSshClient
  /** missing: it can be seen from outside only */
  inside?: { examiner: Examiner; user: string; key: string; publicKey: string; certificate?: string }
  /** why nobody gets in */
  outside?: string
  /** a certificate of the configured CA was refused: that is a finding, not a circumstance */
  refused?: boolean
}

/** How containers are entered: their certificates, and for whom. */
export interface ByCertificate {
  signer: Signer
  /** users and what they are called in a certificate, the most likely first */
  logins: readonly { user: string; principal: string }[]
  /** how long the certificates are good for: until the clone has been examined */
  seconds: number
}

/** Milliseconds that an SSH server may answer before the agent, which may not be installed. */
const AGENT_MILLISECONDS = 20_000

/** Refused logins while a machine boots, when only root may log in and users are being made (pam_nologin, cloud-init). */
const REFUSALS = 6

/**
 * Waits until a clone is up, and goes in.
 * @throws ImagebuildError `build_failed` that says why it did not come up, as far as that can be known
 */
export async function enter(build: Build, clone: Clone, by: ByCertificate | undefined): Promise<Entered> {
  const { guest, identity, console } = clone
  const { image, pve } = build
  let address = identity.address
  using running = whileRunning(guest, build.signal)
  using deadline = withDeadline(running, image.build.bootTimeout, `booting ${clone.name}`)
  await using stack = new AsyncDisposableStack()
  let reason: string | undefined
  try {
    address ??= await addressOf({ image, signal: deadline }, guest, identity.mac)
    const { hostKeys, trust } = await hostKeysOf(build, clone, address, deadline)
    clone.access = { ...clone.access, hostKey: hostKeys[0] as string }
    const client = stack.use(await OpenSshClient.open({ host: address, hostKeys }))
    const { publicKey, privateKey } = clone.access.userKey
    const key = await client.file('id', privateKey)
    const common = { clone, address, hostKeys, trust, client }
    const dispose = (owned: AsyncDisposableStack) => () => owned.disposeAsync()
    if (guest.kind === 'vm') {
      const { user } = clone.access
      await untilAccepted(client, user, { key }, deadline, (why) => {
        reason = why
      })
      const inside = { examiner: client.as(user, { key }), user, key, publicKey }
      return { ...common, inside, [Symbol.asyncDispose]: dispose(stack.move()) }
    }
    const found = by && (await byCertificate(client, by, { key, publicKey, name: clone.name }, deadline))
    if (found !== undefined && 'user' in found) {
      clone.access = { ...clone.access, user: found.user }
      const inside = { ...found, key, publicKey, examiner: client.as(found.user, { key, ...found }) }
      return { ...common, inside, [Symbol.asyncDispose]: dispose(stack.move()) }
    }
    return {
      ...common,
      outside:
        found?.refused ??
        'nobody can be let into a clone of a container without a certificate, and no CA whose key is at hand is configured',
      refused: found !== undefined,
      [Symbol.asyncDispose]: dispose(stack.move()),
    }
  } catch (error) {
    build.signal.throwIfAborted()
    if (error instanceof ImagebuildError && error.code === 'prerequisite_missing') throw error
    const why =
      deadline.aborted && deadline.reason instanceof DeadlineError
        ? deadline.reason.message
        : (error as Error).message
    const seen = await diagnose({
      guest,
      endpoint: pve.endpoint,
      address,
      mac: identity.mac,
      console: console.recorded,
    })
    throw new ImagebuildError({
      code: 'build_failed',
      what: `a clone of the finished template of ${image.name} does not come up so that one can log in`,
      where: image.where,
      why: [why, ...(reason === undefined ? [] : [`the last try: ${reason}`]), seen.why].join('\n'),
      output: seen.output,
      next: seen.next,
      cause: error,
    })
  }
}

/** The agent tells them over the API, whose server is known. Where there is none, who answers first is believed. */
async function hostKeysOf(
  build: Build,
  { guest }: Clone,
  address: string,
  signal: AbortSignal,
): Promise<Pick<Entered, 'hostKeys' | 'trust'>> {
  let answersSince: number | undefined
  return await poll(
    async () => {
      const told = guest.kind === 'vm' ? await keysByAgent(build, guest.vmid) : []
      if (told.length > 0) return { hostKeys: told, trust: 'guest agent' }
      const reach = await reachSsh(address, 22, signal)
      if (reach.banner === undefined) return undefined
      answersSince ??= performance.now()
      if (guest.kind === 'vm' && performance.now() - answersSince < AGENT_MILLISECONDS) return undefined
      const scanned = await scanHostKeys(address, signal)
      return scanned.length > 0 ? { hostKeys: scanned, trust: 'first use' } : undefined
    },
    { signal, first: 250, max: 1000 },
  )
}

const HOST_KEYS = ['ed25519', 'ecdsa', 'rsa'].map((type) => `/etc/ssh/ssh_host_${type}_key.pub`)

/** Complete lines only: while a machine boots, a file may be half written. */
async function keysByAgent({ pve, place }: Build, vmid: number): Promise<string[]> {
  const { agent } = guestApi(pve, { kind: 'vm', node: place.node, vmid })
  const keys: string[] = []
  for (const file of HOST_KEYS) {
    const answer = (await agent['file-read'].$get({ file }).catch(() => undefined)) as
      | { content?: string }
      | undefined
    const line = /^(\S+ \S+)( .*)?\n/.exec(answer?.content ?? '')?.[1]
    // No agent, or no key of the kind that every machine of ours has: not yet.
    if (line === undefined && keys.length === 0) return []
    if (line !== undefined && isKey(line)) keys.push(line)
  }
  return keys
}

function isKey(line: string): boolean {
  try {
    return fingerprint(line) !== ''
  } catch {
    return false
  }
}

async function untilAccepted(
  client: OpenSshClient,
  user: string,
  by: Credentials,
  signal: AbortSignal,
  onRefusal: (why: string) => void,
): Promise<void> {
  await poll(
    async () => {
      const { outcome, why } = await client.attempt(user, by, signal)
      if (outcome !== 'accepted') onRefusal(why)
      return outcome === 'accepted' ? true : undefined
    },
    { signal, first: 500, max: 3000 },
  )
}

/** The first of the users that is let in; or the server's words for the last one. */
async function byCertificate(
  client: OpenSshClient,
  { signer, logins, seconds }: ByCertificate,
  { key, publicKey, name }: { key: string; publicKey: string; name: string },
  signal: AbortSignal,
): Promise<{ user: string; certificate: string } | { refused: string }> {
  const certificates = await Promise.all(
    logins.map(async ({ user, principal }, index) => ({
      user,
      certificate: await client.file(
        `id-${index}-cert.pub`,
        `${await signer.sign({ publicKey, principals: [principal], identity: `verify ${name}`, validity: seconds })}\n`,
      ),
    })),
  )
  let tries = 0
  return await poll(
    async () => {
      let last: Attempt | undefined
      for (const one of certificates) {
        last = await client.attempt(one.user, { key, certificate: one.certificate }, signal)
        if (last.outcome === 'accepted') return one
      }
      if (last?.outcome === 'refused') tries += 1
      const who = logins.map(({ user, principal }) => `${user} as ${principal}`).join(', ')
      return tries < REFUSALS
        ? undefined
        : { refused: `a certificate of the configured CA is refused (${who}): ${last?.why}` }
    },
    { signal, first: 500, max: 2000 },
  )
}

/** Seconds for all that is asked of a clone, but for its checks. */
const EXAMINE_SECONDS = 1200

/** Seconds that a certificate for looking into a clone must be good for: at most an hour after its boot. */
export function certificateSeconds(bootTimeout: number, checks: readonly Check[]): number {
  const asking = checks.reduce(
    (sum, check) => sum + ((check.kind === 'command' ? check.seconds : undefined) ?? CHECK_SECONDS),
    0,
  )
  return Math.ceil(bootTimeout + Math.min(3600, EXAMINE_SECONDS + asking))
}

/** Users of the definition, root first: it is what a container has. */
export function loginsOf(
  { kind }: ImageSpec,
  principals: Readonly<Record<string, readonly string[]>>,
): ByCertificate['logins'] {
  const named = Object.entries(principals).flatMap(([user, [principal = user]]) => [{ user, principal }])
  if (named.length === 0 && kind === 'lxc') return [{ user: 'root', principal: 'root' }]
  return named.sort((a, b) => Number(b.user === 'root') - Number(a.user === 'root'))
}
