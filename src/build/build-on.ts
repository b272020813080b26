import type { ImageSpec } from '../definition/spec.ts'
import { firstPackages, packagesOf } from '../plan/packages-first.ts'
import type { Plan } from '../plan/plan.ts'
import type { Claim } from '../pve/claim-held.ts'
import type { Template } from '../pve/templates.ts'
import type { Session } from '../ssh/session.ts'
import { type Artifact, keepArchive } from './archive.ts'
import { bootGuest } from './boot.ts'
import { isStillOurs } from './claiming.ts'
import { awaitCloudInit } from './cloud-init.ts'
import { type Build, during } from './context.ts'
import { convert } from './convert.ts'
import type { Decision } from './decide.ts'
import { awaited, chooseIdentities } from './identity.ts'
import { takeInventory } from './inventory/inventory.ts'
import { keepForInspection } from './keep.ts'
import { logIn } from './login.ts'
import { provisionFirst } from './packages-layer.ts'
import type { PlacedSource } from './placement.ts'
import { awaitPreparation } from './preparation.ts'
import { provision } from './provision.ts'
import { reasonOf } from './reason.ts'
import { upgradeFirst } from './refresh.ts'
import { requireRoom } from './require-room.ts'
import { deferred, hardenAtLast, oneSshUnit, seal } from './seal.ts'

/** An emulated machine needs seconds for a handshake. */
const RECONNECT_SECONDS = 120

/**
 * From the source to a finished candidate, on one node. From its first mark on it may be the only current template
 * there, so it survives from then on: where verifying or promoting is cut off, the next run finds it.
 */
export async function buildOn(
  build: Build,
  claim: Claim,
  how: Decision & { version: string; place: () => Promise<PlacedSource> },
): Promise<Template> {
  const { image, options } = build
  const { plan, decision, version } = how
  await requireRoom(build, decision)
  // Hearing that nobody answers at an address takes most of a second; meanwhile the source is placed.
  const choosing = chooseIdentities(build, claim, ['build'])
  await using _chosen = awaited(choosing)
  const source = await how.place()
  await requireRoom(build, decision, source)
  await using guest = await bootGuest(build, source, (await choosing).build)
  await using results = new AsyncDisposableStack()
  let archive: Artifact | undefined
  let artifacts: Record<string, string>
  try {
    await using session = await during(build, 'boot', 'booting', () => logIn(build, guest))
    if (image.kind === 'lxc')
      await during(build, 'prepare', 'waiting for its preparation', () => awaitPreparation(build, session))
    if (hasSeed(image))
      await during(build, 'cloud-init', 'waiting for cloud-init', () => awaitCloudInit(build, session))
    await oneSshUnit(session, build, 'prepare')
    await provisionAll(build, session, plan, source)
    // Before anything is removed: what was done to sshd must let people in.
    await session.reconnect({ seconds: RECONNECT_SECONDS, signal: build.signal })
    if (plan.atSeal !== '')
      await during(build, 'seal', 'hardening at last', () => hardenAtLast(session, build, plan.atSeal))
    // Once it is sealed, nobody may ask it any more.
    artifacts = await during(build, 'inventory', 'writing down what is in it', () =>
      takeInventory(build, session, { version, digest: plan.digest, user: guest.access.user }),
    )
    await during(build, 'seal', 'sealing', () => seal(session, guest.access, build))
    if (image.kind === 'lxc' && image.template.archive) {
      archive = await during(build, 'archive', 'keeping the archive', () =>
        keepArchive(build, image, { machine: guest, session, version }),
      )
      results.use(archive)
    }
  } catch (error) {
    const isKept = options.onError === 'keep' && !build.interrupted.aborted
    // Another run may have removed the guest, and have one of its own at that VMID.
    if (!isKept || !(await isStillOurs(claim))) throw error
    throw await keepForInspection(build, guest, reasonOf(build, error))
  }
  const candidate = await convert(build, guest, { plan, decision, version, archive, artifacts })
  guest.keep()
  archive?.keep()
  return candidate
}

/** All layers in order. What their packages do to the whole system happens at their end. */
async function provisionAll(build: Build, session: Session, plan: Plan, source: PlacedSource): Promise<void> {
  await deferred(session, build, 'hold')
  try {
    await provisionLayers(build, session, plan, source)
  } catch (error) {
    // Whoever looks into a guest that is kept finds its own programs in their places.
    const isKept = build.options.onError === 'keep' && !build.signal.aborted
    if (isKept) await deferred(session, build, 'run').catch(() => undefined)
    throw error
  }
  await during(build, 'finish', 'finishing what was put off', () => deferred(session, build, 'run'))
}

/** Those that only install packages at the beginning at once, then each of the others. */
async function provisionLayers(
  build: Build,
  session: Session,
  { layers }: Plan,
  source: PlacedSource,
): Promise<void> {
  const to = { ...build, image: build.image.name, session }
  await upgradeFirst(build, to)
  const brought = ('brought' in source && source.brought) || []
  const first = firstPackages(layers)
  const later = layers.slice(first.length).flatMap(({ layer, by }) => (by === 'definition' ? layer : []))
  if (first.length > 0) {
    const places = first.length === 1 ? 'layer 1' : `layers 1–${first.length}`
    const names = first.map(({ name }) => name).join('; ')
    const lacking = packagesOf(first, brought).length
    const how = brought.length === 0 ? '' : lacking === 0 ? ': brought along' : `: ${lacking} lacking`
    await during(build, 'layer', `${places}/${layers.length}: ${names}${how}`, () =>
      provisionFirst(first, brought, later, to),
    )
  }
  for (const [index, { layer }] of layers.entries()) {
    if (index < first.length) continue
    await during(build, 'layer', `layer ${index + 1}/${layers.length}: ${layer.name}`, async () => {
      if (layer.kind === 'reboot') await deferred(session, build, 'run')
      await provision(layer, to)
      if (layer.kind === 'reboot') await deferred(session, build, 'hold')
    })
  }
}

/** A virtual machine always gets one from us; a container only where its definition wants something of cloud-init. */
function hasSeed({ kind, cloudInit }: ImageSpec): boolean {
  return kind === 'vm' || cloudInit.length > 0
}
