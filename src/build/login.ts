import { asImagebuildError, ImagebuildError } from '../core/errors.ts'
import { poll, withDeadline } from '../core/scope.ts'
import { openSession, type Session } from '../ssh/session.ts'
import type { Build } from './context.ts'
import { diagnose } from './diagnose.ts'
import type { BuildGuest } from './guest.ts'

/**
 * The first login to a booting guest, at the address that it was given or that its agent tells.
 * @throws ImagebuildError `build_failed` that says why nobody got in, as far as that can be known
 */
export async function logIn(
  build: Build,
  { guest, access, identity, console }: BuildGuest,
): Promise<Session> {
  const { image, signal, pve } = build
  const deadline = performance.now() + image.build.bootTimeout * 1000
  let address = identity.address
  using running = whileRunning(guest, signal)
  try {
    address ??= await addressByAgent({ image, signal: running }, guest)
    return await openSession({
      host: address,
      username: access.user,
      privateKey: access.userKey.privateKey,
      hostKey: access.hostKey.publicKey,
      signal: running,
      connectSeconds: Math.max(1, (deadline - performance.now()) / 1000),
    })
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
function whileRunning(guest: BuildGuest['guest'], signal: AbortSignal): AbortSignal & Disposable {
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

async function addressByAgent(
  { image, signal }: Pick<Build, 'image' | 'signal'>,
  guest: BuildGuest['guest'],
): Promise<string> {
  using deadline = withDeadline(signal, image.build.bootTimeout, 'the guest agent telling an address')
  return await poll(async () => (await guest.agentAddresses())?.[0], {
    signal: deadline,
    first: 500,
    max: 1000,
  })
}
