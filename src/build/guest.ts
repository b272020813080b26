import type { Identity } from '../plan/network.ts'
import { createGuest, type Guest } from '../pve/guests.ts'
import { renderNote } from '../pve/marks.ts'
import { uploadSeed } from '../pve/volumes.ts'
import type { CloudConfig } from '../seed/cloud-config.ts'
import { renderSeed } from '../seed/nocloud.ts'
import { type Access, makeAccess } from './access.ts'
import { ConsoleRecorder } from './console.ts'
import { type Build, during, noteOf, outputOf, tagsOf, taskLine } from './context.ts'
import { chooseIdentity } from './identity.ts'
import { buildParameters, DISK } from './machine.ts'
import type { PlacedSource } from './placement.ts'

/** A guest that boots, with all that belongs to it. Its end removes everything, unless it is kept. */
export interface BuildGuest extends AsyncDisposable {
  guest: Guest
  access: Access
  identity: Identity
  console: ConsoleRecorder
  /** the guest survives; its seed does not */
  keep(): void
  /** guest and seed survive: someone wants to look into it */
  keepAll(): void
}

/** Creates a guest from the source, with our seed in its drive, and starts it. */
export async function bootGuest(build: Build, source: PlacedSource): Promise<BuildGuest> {
  const { image, place, pve, run, expires, emit, signal, owner } = build
  await using stack = new AsyncDisposableStack()
  const access = await makeAccess(run, signal)
  const identity = await chooseIdentity(build)
  return await during(build, 'create', 'creating the guest', async () => {
    const seed = stack.use(
      await uploadSeed(pve, place, {
        namespace: build.namespace,
        image: image.name,
        run,
        expires,
        emit,
        signal,
        bytes: seedOf(build, access, identity, source),
      }),
    )
    const guest = stack.use(
      await createGuest(pve, {
        kind: 'vm',
        place,
        image: image.name,
        run,
        range: place.vmids.templates,
        emit,
        onLine: taskLine(build, 'create'),
        signal,
        seconds: 3600,
        parameters: (vmid) => ({
          name: `ib-build-${image.name}`,
          tags: tagsOf(build, vmid, { state: 'building', expires, address: identity.address }),
          description: renderNote(noteOf(build, vmid, { owner, expires })),
          ...buildParameters({
            image,
            place,
            mac: identity.mac,
            seedVolid: seed.volid,
            ...(source.kind === 'volume' && { sourceVolid: source.volid }),
          }),
        }),
        ...(source.kind === 'template' && { cloneOf: source.template }),
      }),
    )
    if (image.hardware.disk !== undefined) await guest.growDisk(DISK, image.hardware.disk)
    await guest.start()
    const console = stack.use(new ConsoleRecorder(pve, guest, outputOf(build, 'boot', 'console')))
    const owned = stack.move()
    return {
      guest,
      access,
      identity,
      console,
      keep: () => guest.keep(),
      keepAll: () => {
        guest.keep()
        seed.keep()
      },
      [Symbol.asyncDispose]: () => owned.disposeAsync(),
    }
  })
}

function seedOf(build: Build, access: Access, identity: Identity, source: PlacedSource): Uint8Array {
  const { image, place, run } = build
  return renderSeed({
    instanceId: `imagebuild-${run}`,
    hostname: image.name,
    user: { name: access.user, authorizedKey: access.userKey.publicKey },
    hostKey: access.hostKey,
    network:
      identity.address === undefined || place.addresses === undefined
        ? { kind: 'dhcp', macAddress: identity.mac }
        : {
            kind: 'static',
            macAddress: identity.mac,
            address: `${identity.address}/${place.addresses.prefix}`,
            gateway: place.addresses.gateway,
            dns: place.dns,
          },
    fragments: image.cloudInit as { name: string; config: CloudConfig }[],
    // A bootstrapped system has it; whether a cloud image does is not known, and only DHCP needs it.
    guestAgent:
      identity.address === undefined && source.kind === 'volume' && image.source.kind !== 'bootstrap',
  })
}
