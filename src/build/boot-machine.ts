import type { VmSpec } from '../definition/spec.ts'
import type { Identity } from '../plan/network.ts'
import { uploadSeed } from '../pve/seeds.ts'
import type { CloudConfig } from '../seed/cloud-config.ts'
import { renderSeed } from '../seed/nocloud.ts'
import { type Access, type HostKeyPair, machineAccess } from './access.ts'
import { ConsoleRecorder } from './console.ts'
import { type Build, during, outputOf, taskLine } from './context.ts'
import { type BuildGuest, createBuildGuest } from './guest.ts'
import { buildParameters, DISK } from './machine.ts'
import type { PlacedSource } from './placement.ts'

type MachineSource = Exclude<PlacedSource, { kind: 'archive' }>

/** Creates a virtual machine from the source, with our seed in its drive, and starts it. */
export async function bootMachine(
  build: Build,
  image: VmSpec,
  source: MachineSource,
  identity: Identity,
): Promise<BuildGuest> {
  const { namespace, place, pve, run, secrets, expires, emit, signal } = build
  await using stack = new AsyncDisposableStack()
  const { access, hostKey } = await machineAccess(run, signal)
  // It lies in the seed, and so in the guest, whose console is recorded.
  secrets.add(hostKey.privateKey)
  return await during(build, 'create', 'creating the guest', async () => {
    const bytes = seedOf(build, image, { access, hostKey, identity, source })
    const seed = stack.use(
      await uploadSeed(pve, place, {
        ...{ namespace, image: image.name, run, expires, emit, signal, bytes },
        ...(build.beside !== undefined && { node: build.beside }),
      }),
    )
    const guest = stack.use(
      await createBuildGuest(build, identity, {
        parameters: {
          name: `ib-build-${image.name}`,
          ...buildParameters({
            image,
            place,
            mac: identity.mac,
            seedVolid: seed.volid,
            ...(source.kind === 'volume' && { sourceVolid: source.volid }),
          }),
        },
        onLine: taskLine(build, 'create'),
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

function seedOf(
  { place, run }: Build,
  image: VmSpec,
  facts: { access: Access; hostKey: HostKeyPair; identity: Identity; source: MachineSource },
): Uint8Array {
  const { access, hostKey, identity, source } = facts
  return renderSeed({
    instanceId: `imagebuild-${run}`,
    hostname: image.name,
    user: { name: access.user, authorizedKey: access.userKey.publicKey },
    hostKey,
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
