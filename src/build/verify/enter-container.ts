import { poll } from '../../core/scope.ts'
import type { Check } from '../../definition/check.ts'
import type { ImageSpec } from '../../definition/spec.ts'
import { fingerprint } from '../../ssh/host-key.ts'
import { CHECK_SECONDS } from './checks.ts'
import { attempt } from './login-cases.ts'
import type { Attempt, ByKey, OpenSshClient } from './openssh-client.ts'
import type { OwnLogin } from './own-keys.ts'
import type { Signer } from './signer.ts'

/**
 * Proxmox lets nobody add a key to a clone of a container: in gets whom the template lets in. By a certificate of the
 * configured CA, where somebody signs one; else by a key that the definition gives to a user and that is at hand.
 */
export interface ContainerDoors {
  certificates?: ByCertificate
  keys: readonly OwnLogin[]
  /** why there are no more keys */
  without: string
}

export interface ByCertificate {
  signer: Signer
  /** users and what they are called in a certificate, the most likely first */
  logins: readonly { user: string; principal: string }[]
  /** how long the certificates are good for: until the clone has been examined */
  seconds: number
}

/** A user who is or becomes root; or why nobody is. */
export type InContainer = { user: string; by: ByKey } | Outside

export interface Outside {
  outside: string
  /** a certificate of the configured CA was refused: that is a finding, not a circumstance */
  refused: boolean
  /** who logged in and could not become root */
  loggedIn?: { user: string; by: 'certificate' | 'key' }
}

/** Refused logins while a machine boots, when only root may log in and users are being made (pam_nologin, cloud-init). */
const REFUSALS = 6

/** Tries of a login by key until there is an answer: pam_nologin closes the connection while a machine boots. */
const UNANSWERED = 20

export async function enterContainer(
  client: OpenSshClient,
  { certificates, keys, without }: ContainerDoors,
  own: { key: string; publicKey: string; name: string },
  signal: AbortSignal,
): Promise<InContainer> {
  const certified = certificates && (await byCertificate(client, certificates, own, signal))
  if (certified !== undefined && ('user' in certified || certified.refused)) return certified
  const keyed = await byOwnKey(client, keys, signal)
  if ('user' in keyed) return keyed
  const loggedIn = certified?.loggedIn ?? keyed.loggedIn
  const keysFailed = [keyed.outside, without].filter((text) => text !== '').join('; ') || NO_KEY
  return {
    outside: `a clone of a container is entered by certificate, or by a key of a user: ${certified?.outside ?? NO_SIGNER}; ${keysFailed}`,
    refused: false,
    ...(loggedIn && { loggedIn }),
  }
}

const NO_SIGNER = 'no CA whose key is at hand is configured (ssh.signer of the target)'
const NO_KEY = 'the definition gives nobody a key'

/** The first of the users that is let in and becomes root; or the server's words for the last one. */
async function byCertificate(
  client: OpenSshClient,
  { signer, logins, seconds }: ByCertificate,
  { key, publicKey, name }: { key: string; publicKey: string; name: string },
  signal: AbortSignal,
): Promise<InContainer> {
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
      let powerless: Outside | undefined
      for (const { user, certificate } of certificates) {
        const by = { key, certificate }
        last = await client.attempt(user, by, signal)
        if (last.outcome !== 'accepted') continue
        const why = await whyNotRoot(client, user, by, signal)
        if (why === undefined) return { user, by }
        powerless ??= {
          outside: `${user} logs in by certificate, and cannot become root: ${why}`,
          refused: false,
          loggedIn: { user, by: 'certificate' },
        }
      }
      if (powerless !== undefined) return powerless
      if (last?.outcome === 'refused') tries += 1
      const who = logins.map(({ user, principal }) => `${user} as ${principal}`).join(', ')
      const outside = `a certificate of the configured CA is refused (${who}): ${last?.why}`
      return tries < REFUSALS ? undefined : { outside, refused: true }
    },
    { signal, first: 500, max: 2000 },
  )
}

/** Users are in the template, so that a refusal is the server's last word. */
async function byOwnKey(
  client: OpenSshClient,
  logins: readonly OwnLogin[],
  signal: AbortSignal,
): Promise<InContainer> {
  const whys: string[] = []
  let loggedIn: Outside['loggedIn']
  for (const [index, { user, publicKey, file }] of logins.entries()) {
    const by: ByKey =
      file === undefined
        ? { key: await client.file(`own-${index}.pub`, `${publicKey}\n`), agent: true }
        : { key: await client.link(`own-${index}`, file) }
    const { outcome, why } = await attempt(client, user, by, signal, UNANSWERED)
    const called = `${user}, whose key ${fingerprint(publicKey)} is at hand,`
    if (outcome !== 'accepted') {
      whys.push(`${called} is not let in: ${why}`)
      continue
    }
    const powerless = await whyNotRoot(client, user, by, signal)
    if (powerless === undefined) return { user, by }
    loggedIn ??= { user, by: 'key' }
    whys.push(`${called} logs in and cannot become root: ${powerless}`)
  }
  return { outside: whys.join('; '), refused: false, ...(loggedIn && { loggedIn }) }
}

/** @returns what sudo says, where it wants a password or is not there */
async function whyNotRoot(
  client: OpenSshClient,
  user: string,
  by: ByKey,
  signal: AbortSignal,
): Promise<string | undefined> {
  if (user === 'root') return undefined
  const { outcome, why } = await client.attempt(user, by, signal, true)
  return outcome === 'accepted' ? undefined : why
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
