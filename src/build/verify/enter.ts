import { ImagebuildError } from '../../core/errors.ts'
import { DeadlineError, poll, withDeadline } from '../../core/scope.ts'
import type { Build } from '../context.ts'
import { diagnose } from '../diagnose.ts'
import { addressOf, whileRunning } from '../login.ts'
import type { Clone } from './clone.ts'
import { type ContainerDoors, enterContainer, type InContainer, type Outside } from './enter-container.ts'
import type { Examiner } from './examiner.ts'
import { type HostKeys, hostKeysOf } from './host-keys.ts'
import { type ByKey, type Credentials, OpenSshClient } from './openssh-client.ts'

/** A clone that answers, and how far somebody gets into it. */
export interface Entered extends AsyncDisposable, HostKeys, Partial<Outside> {
  clone: Clone
  address: string
  client: OpenSshClient
  /** missing: it can be seen from outside only */
  inside?: { examiner: Examiner; user: string; by: ByKey }
}

/**
 * Waits until a clone is up, and goes in.
 * @throws ImagebuildError `build_failed` that says why it did not come up, as far as that can be known
 */
export async function enter(build: Build, clone: Clone, doors: ContainerDoors): Promise<Entered> {
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
    let found: InContainer
    if (guest.kind === 'vm') {
      const { user } = clone.access
      await untilAccepted(client, user, { key }, deadline, (why) => {
        reason = why
      })
      found = { user, by: { key } }
    } else found = await enterContainer(client, doors, { key, publicKey, name: clone.name }, deadline)
    const owned = stack.move()
    const disposable = { [Symbol.asyncDispose]: () => owned.disposeAsync() }
    if ('outside' in found) return { ...common, ...found, ...disposable }
    const { user, by } = found
    clone.access = { ...clone.access, user }
    return { ...common, inside: { examiner: client.as(user, by), user, by }, ...disposable }
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
