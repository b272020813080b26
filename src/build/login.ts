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
  try {
    address ??= await addressByAgent(build, guest)
    return await openSession({
      host: address,
      username: access.user,
      privateKey: access.userKey.privateKey,
      hostKey: access.hostKey.publicKey,
      signal,
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
      what: `nobody could log in to the guest of ${image.name} within ${image.build.bootTimeout} s`,
      where: image.where,
      why: `${failure.message}\n${seen.why}`,
      output: seen.output,
      next: seen.next,
      cause: failure,
    })
  }
}

async function addressByAgent({ image, signal }: Build, guest: BuildGuest['guest']): Promise<string> {
  using deadline = withDeadline(signal, image.build.bootTimeout, 'the guest agent telling an address')
  return await poll(async () => (await guest.agentAddresses())?.[0], {
    signal: deadline,
    first: 500,
    max: 1000,
  })
}
