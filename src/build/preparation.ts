import { ImagebuildError } from '../core/errors.ts'
import { DeadlineError } from '../core/scope.ts'
import type { Session } from '../ssh/session.ts'
import type { Build } from './context.ts'

/** Exits 0 also where there is no such unit; otherwise with what it printed. */
const WAIT = `
unit=imagebuild-prepare.service
[ -e "/etc/systemd/system/$unit" ] || exit 0
while [ "$(systemctl is-active "$unit")" = activating ]; do sleep 0.2; done
[ "$(systemctl show --property=Result --value "$unit")" = success ] && exit 0
journalctl --unit "$unit" --no-pager --output=cat --lines=15
exit 1
`

/**
 * Waits until a container that had to install something on its first boot (prepare.sh) has done so. Its SSH server may
 * let imagebuild in while the rest is still being configured, ifupdown for one, which takes the address off the card for a
 * moment: a connection that is lost by that is made anew, once.
 * @throws ImagebuildError `build_failed` with its last lines
 */
export async function awaitPreparation({ image, signal }: Build, session: Session): Promise<void> {
  const seconds = image.build.bootTimeout
  const wait = () => session.run(WAIT, { seconds, signal, sudo: true })
  const { code, stdout } = await wait().catch(async (error: Error) => {
    signal.throwIfAborted()
    if (error.cause instanceof DeadlineError) throw error
    await session.reconnect({ seconds, signal })
    return await wait()
  })
  if (code === 0) return
  throw new ImagebuildError({
    code: 'build_failed',
    what: `${image.name} could not install what its archive lacks`,
    where: image.source.where,
    output: stdout.trimEnd().split('\n'),
    next: 'if a mirror was unreachable, run again; or take an archive that has an SSH server and, on Debian, ifupdown',
  })
}
