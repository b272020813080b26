import { join } from 'node:path'
import { asImagebuildError, type ImagebuildError } from '../core/errors.ts'
import { withDeadline } from '../core/scope.ts'
import { consoleCommand, guestLabel } from '../pve/guest-ref.ts'
import { writeConfig } from '../pve/lost-answer.ts'
import { renderNote } from '../pve/marks.ts'
import { readOwnConfig } from '../pve/own-guest.ts'
import { saveAccess } from './access.ts'
import { type Build, noteOf, tagsOf } from './context.ts'
import type { BuildGuest } from './guest.ts'
import { withReason } from './reason.ts'

/** Seconds that a kept guest, or a candidate that failed, is left alone by `prune`: a day. */
export const KEPT_SECONDS = 24 * 3600

/** Seconds that giving a guest its new marks may take. */
const KEEPING_SECONDS = 60

/** `--on-error keep`: the guest stays as it is, and the error says how to get in. */
export async function keepForInspection(
  build: Build,
  machine: BuildGuest,
  cause: unknown,
): Promise<ImagebuildError> {
  const { guest, access, identity } = machine
  const failure = asImagebuildError(cause)
  const expires = build.pve.clock.after(KEPT_SECONDS)
  // Under a signal of its own: what failed may be that the time for the build is over.
  using signal = withDeadline(undefined, KEEPING_SECONDS, `keeping ${guestLabel(guest)}`)
  try {
    const pve = build.pve.withSignal(signal)
    const { digest } = await readOwnConfig(pve, guest)
    await writeConfig(pve, guest, {
      tags: tagsOf(build, guest.vmid, { state: 'kept', expires, address: identity.address }),
      // Without the name of an archive: this build's goes now, and a later one may be called the same.
      description: renderNote(noteOf(build, guest.vmid, { owner: build.owner, expires, guest: guest.token })),
      // Another run's guest, which may take this VMID at this moment, has another.
      digest,
    })
  } catch (error) {
    // Without its marks the next run would take it for a leftover. What made the build fail must not be lost by it.
    build.emit({
      type: 'warning',
      image: build.image.name,
      message: `${guestLabel(guest)} cannot be kept: ${asImagebuildError(error).message}`,
    })
    return failure
  }
  machine.keepAll()
  const address = identity.address ?? (await guest.addresses(identity.mac))?.[0]
  const login =
    address === undefined
      ? `its address is unknown; see its console: ${consoleCommand(guest)}`
      : await saveAccess(access, join(build.keptDir, String(guest.vmid)), address)
  const next = `${guestLabel(guest)} on ${guest.node} is kept for a day. Get in:\n    ${login}\n  and when you are done: imagebuild prune --kept`
  return withReason(failure.with({ next }))
}
