import { ImagebuildError } from '../core/errors.ts'
import type { LxcSpec } from '../definition/spec.ts'
import type { Identity } from '../plan/network.ts'
import { containerAccess } from './access.ts'
import { ConsoleRecorder } from './console.ts'
import { CONTAINER_USER, containerParameters } from './container.ts'
import { type Build, during, outputOf, taskLine } from './context.ts'
import { type BuildGuest, createBuildGuest } from './guest.ts'
import { HostKeyLog } from './host-key-log.ts'

/** Creates a container from an archive on the storage, our key in root's hands, and starts it. */
export async function bootContainer(
  build: Build,
  image: LxcSpec,
  source: { volid: string },
  identity: Identity,
): Promise<BuildGuest> {
  const { place, pve, run, signal } = build
  await using stack = new AsyncDisposableStack()
  const userKey = await containerAccess(run, signal)
  return await during(build, 'create', 'creating the container', async () => {
    const hostKeys = new HostKeyLog()
    const tell = taskLine(build, 'create')
    const guest = stack.use(
      await createBuildGuest(build, identity, {
        parameters: containerParameters({
          image,
          place,
          identity,
          archive: source.volid,
          authorizedKey: userKey.publicKey,
        }),
        onLine: (line) => {
          hostKeys.read(line)
          tell(line)
        },
      }),
    )
    const { fingerprint } = hostKeys
    if (fingerprint === undefined) {
      throw new ImagebuildError({
        code: 'build_failed',
        what: 'Proxmox made no SSH host key for the container, so nobody can tell it from another',
        where: image.source.where,
        why: `its log names none: the archive ${source.volid} has no /etc/ssh, or Proxmox does not know its system`,
        next: 'start from another archive: one of Debian or Ubuntu with openssh-server',
      })
    }
    await guest.start()
    const console = stack.use(new ConsoleRecorder(pve, guest, outputOf(build, 'boot', 'console')))
    const owned = stack.move()
    return {
      guest,
      access: { user: CONTAINER_USER, userKey, hostKey: fingerprint },
      identity,
      console,
      keep: () => guest.keep(),
      keepAll: () => guest.keep(),
      [Symbol.asyncDispose]: () => owned.disposeAsync(),
    }
  })
}
