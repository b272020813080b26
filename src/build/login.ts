import { asImagebuildError, ImagebuildError } from '../core/errors.ts'
import { pauses } from '../core/pauses.ts'
import { poll, withDeadline } from '../core/scope.ts'
import { openSession, type Session } from '../ssh/session.ts'
import type { Build } from './context.ts'
import { diagnose } from './diagnose.ts'
import type { BuildGuest } from './guest.ts'

/**
 * The first login to a booting guest, at the address that it was given or that its agent tells.
 * @throws ImagebuildError `build_failed` that says why nobody got in, as far as that can be known
 */
export async function logIn(build: Build, machine: BuildGuest): Promise<Session> {
  const { guest, access, identity, console } = machine
  const { image, signal, pve } = build
  const deadline = pauses.running() + image.build.bootTimeout * 1000
  let address = identity.address
  using running = whileRunning(guest, signal)
  try {
    address ??= await addressOf({ image, signal: running }, guest, identity.mac)
    const session = await openSession({
      host: address,
      username: access.user,
      privateKey: access.userKey.privateKey,
      hostKey: access.hostKey,
      signal: running,
      connectSeconds: Math.max(1, (deadline - pauses.running()) / 1000),
    })
    if (guest.kind === 'lxc') {
      machine.access = { ...access, hostKey: await hostKeyOf(session, build) }
      // A reboot would end it, and LXC on its own loses a container that reboots while somebody looks at its console.
      console[Symbol.dispose]()
    }
    return session
  } catch (error) {
    signal.throwIfAborted()
    const failure = asImagebuildError(error)
    const seen = await diagnose({
      guest,
      endpoint: pve.endpoint,
      address,
      mac: identity.mac,
      console: console.recorded,
    })
    throw new ImagebuildError({
      code: 'build_failed',
      what: running.aborted
        ? `the guest of ${image.name} stopped before anybody could log in`
        : `nobody could log in to the guest of ${image.name} within ${image.build.bootTimeout} s`,
      where: image.where,
      why: `${failure.code === 'internal' ? (error as Error).message : failure.message}\n${seen.why}`,
      output: seen.output,
      next: seen.next,
      cause: failure,
    })
  }
}

/** Milliseconds between two looks whether the guest still runs. */
const LOOK_EVERY = 3000

/** Aborts with `signal`, or when the guest has stopped: nobody needs to knock at its door then. */
export function whileRunning(guest: BuildGuest['guest'], signal: AbortSignal): AbortSignal & Disposable {
  const stopped = new AbortController()
  const enough = new AbortController()
  poll(async () => ((await guest.status()).status === 'stopped' ? true : undefined), {
    signal: AbortSignal.any([signal, enough.signal]),
    first: LOOK_EVERY,
    max: LOOK_EVERY,
  }).then(
    () =>
      stopped.abort(new ImagebuildError({ code: 'build_failed', what: 'the guest stopped while it booted' })),
    // What Proxmox does not tell, the deadline of the boot does.
    () => {},
  )
  return Object.assign(AbortSignal.any([signal, stopped.signal]), {
    [Symbol.dispose]: () => enough.abort(),
  })
}

/** Once in, the whole host key can be had, of which only the fingerprint was known. */
async function hostKeyOf(session: Session, { signal }: Build): Promise<string> {
  return (await session.download('/etc/ssh/ssh_host_ed25519_key.pub', { signal })).toString().trim()
}

/** What DHCP gave it: of a virtual machine its agent must tell that, into a container Proxmox can look. */
export async function addressOf(
  { image, signal }: Pick<Build, 'image' | 'signal'>,
  guest: BuildGuest['guest'],
  mac: string,
): Promise<string> {
  using deadline = withDeadline(signal, image.build.bootTimeout, 'waiting for an address by DHCP')
  return await poll(async () => (await guest.addresses(mac))?.[0], {
    signal: deadline,
    first: 500,
    max: 1000,
  })
}
