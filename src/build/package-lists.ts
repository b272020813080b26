import type { Fragment, Layer } from '../definition/spec.ts'
import type { Session } from '../ssh/session.ts'
import { type Build, outputOf } from './context.ts'

/**
 * `apt-get update`, once per boot and change of the sources. The stamp is from before it began, so that sources
 * that change while it runs count as newer. Waits for another apt instead of failing.
 */
export const UPDATE_LISTS = [
  'stamp=/run/imagebuild-apt-updated',
  'if [ ! -e "$stamp" ] || [ -n "$(find /etc/apt -newer "$stamp" -print -quit)" ]; then',
  '  touch "$stamp.begun"',
  '  tries=0',
  '  until apt-get -q -y -o DPkg::Lock::Timeout=600 -o Dpkg::Use-Pty=0 -o Acquire::Retries=3 \\',
  '    -o Acquire::Languages=none -o APT::Update::Error-Mode=any update; do',
  '    tries=$((tries + 1))',
  '    if [ "$tries" -ge 5 ]; then exit 100; fi',
  '    sleep 3',
  '  done',
  '  mv "$stamp.begun" "$stamp"',
  'fi',
] as const

/** English, so that apt's complaints can be understood; no questions. */
export const APT_ENVIRONMENT = 'export DEBIAN_FRONTEND=noninteractive NEEDRESTART_MODE=a LC_ALL=C.UTF-8'

/** Parts of cloud-config that neither use apt nor run anything of the user's. */
const HARMLESS = new Set(['timezone', 'locale', 'keyboard', 'users', 'groups', 'growpart', 'resize_rootfs'])

/**
 * Whether package lists may be fetched while cloud-init still works: a layer will want them, and no fragment has
 * cloud-init do anything with packages, or run commands, meanwhile.
 */
export function wantsListsEarly(layers: readonly Layer[], fragments: readonly Fragment[]): boolean {
  return (
    layers.some((layer) => layer.kind === 'packages') &&
    fragments.every(({ config }) =>
      Object.entries(config).every(([key, value]) => HARMLESS.has(key) || value === false),
    )
  )
}

/**
 * Fetches them, on a second channel of the session. What goes wrong here goes wrong again in the layer, where it can
 * be explained, so it is no error; the layer also fetches anew if cloud-init has changed the sources in between.
 */
export async function fetchListsEarly(build: Build, session: Session): Promise<void> {
  const { image, signal } = build
  if (!wantsListsEarly(image.layers, image.cloudInit)) return
  try {
    await session.run(['set -eu', APT_ENVIRONMENT, ...UPDATE_LISTS, ''].join('\n'), {
      sudo: true,
      seconds: image.build.bootTimeout,
      signal,
      onLine: (stream, line) => outputOf(build, 'cloud-init', stream)(line),
    })
  } catch {
    signal.throwIfAborted()
  }
}
