import type { ImageSpec } from '../../definition/spec.ts'
import type { Identity } from '../../plan/network.ts'
import type { CreateParameters } from '../../pve/guest.ts'
import type { Template } from '../../pve/templates.ts'
import { generateKeyPair } from '../../ssh/openssh.ts'
import { ConsoleRecorder } from '../console.ts'
import { containerCard, ON_CONSOLE } from '../container.ts'
import { type Build, outputOf, taskLine } from '../context.ts'
import { type BuildGuest, createBuildGuest } from '../guest.ts'
import { DISK, machineCard } from '../machine.ts'
import { CLONE_GROWTH } from '../room.ts'
import type { CloneFacts } from './report.ts'

/** A clone of a finished template, started as its consumers would start theirs. */
export interface Clone extends BuildGuest {
  role: CloneFacts['role']
  name: string
}

/** Whom Proxmox's cloud-init makes in a clone of a virtual machine. */
export const CLONE_USER = 'ib-verify'

/** Names in DNS are no longer. */
const NAME_LENGTH = 63

export interface CloneRequest {
  image: ImageSpec
  template: Template
  role: CloneFacts['role']
  identity: Identity
}

/** Creates it, with the marks of this run from its first moment, and starts it. */
export async function bootClone(
  build: Build,
  { image, template, role, identity }: CloneRequest,
): Promise<Clone> {
  const { pve, run, signal } = build
  const name = `ib-${role}-${image.name}`.slice(0, NAME_LENGTH).replace(/[-.]+$/, '')
  const userKey = await generateKeyPair(`ib-verify-${run}`, signal)
  await using stack = new AsyncDisposableStack()
  const guest = stack.use(
    await createBuildGuest(build, identity, {
      parameters: {
        name,
        ...(image.kind === 'vm'
          ? machineParameters(build, image, identity, userKey.publicKey)
          : containerParameters(build, image, identity)),
      },
      onLine: taskLine(build, 'verify'),
      cloneOf: { node: template.node, vmid: template.vmid, linked: true, asConsumer: true },
    }),
  )
  if (image.kind === 'vm' && role === 'verify-a') {
    const size = await guest.diskSize(DISK)
    if (size !== undefined) await guest.growDisk(DISK, size + CLONE_GROWTH)
  }
  await guest.start()
  const console = stack.use(new ConsoleRecorder(pve, guest, outputOf(build, 'verify', 'console')))
  const owned = stack.move()
  return {
    role,
    name,
    guest,
    identity,
    console,
    access: { user: image.kind === 'vm' ? CLONE_USER : 'root', userKey, hostKey: '' },
    keep: () => guest.keep(),
    keepAll: () => guest.keep(),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  }
}

function hardware({ build, hardware: { cores, memory } }: ImageSpec): CreateParameters {
  return { cores: build.cores ?? cores, memory: String(build.memory ?? memory) }
}

/** Proxmox gives every clone a new MAC, hence the card; the rest is what consumers say to its cloud-init. */
function machineParameters(
  { place }: Build,
  image: ImageSpec,
  { mac, address }: Identity,
  publicKey: string,
): CreateParameters {
  const pool = place.addresses
  const isStatic = address !== undefined && pool !== undefined
  return {
    ...hardware(image),
    net0: machineCard(place, mac),
    ciuser: CLONE_USER,
    sshkeys: encodeURIComponent(publicKey),
    ipconfig0: isStatic ? `ip=${address}/${pool.prefix},gw=${pool.gateway}` : 'ip=dhcp',
    ...(isStatic && place.dns.length > 0 && { nameserver: place.dns.join(' ') }),
  }
}

function containerParameters({ place }: Build, image: ImageSpec, identity: Identity): CreateParameters {
  const isStatic = identity.address !== undefined
  return {
    ...hardware(image),
    ...ON_CONSOLE,
    net0: containerCard(place, identity),
    ...(isStatic && place.dns.length > 0 && { nameserver: place.dns.join(' ') }),
  }
}
