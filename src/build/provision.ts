import { randomUUID } from 'node:crypto'
import { Readable } from 'node:stream'
import { asImagebuildError, ImagebuildError } from '../core/errors.ts'
import type { Layer } from '../definition/spec.ts'
import { asLayer, failed, type Provisioning, runLayer } from './layer-run.ts'
import { installPackages } from './packages-layer.ts'

/**
 * Applies one layer to the guest.
 * @throws ImagebuildError `build_failed` with the layer's place in the definition and its last output
 */
export async function provision(layer: Layer, to: Provisioning): Promise<void> {
  await asLayer(layer, to, () => apply(layer, to))
}

async function apply(layer: Layer, to: Provisioning): Promise<void> {
  switch (layer.kind) {
    case 'packages':
      return await installPackages(layer, [layer], to)
    case 'file':
      return await to.session.upload(layer.content, layer.path, {
        mode: Number.parseInt(layer.mode, 8),
        owner: layer.owner,
        sudo: true,
        signal: to.signal,
        seconds: layer.timeoutSeconds,
      })
    case 'shell':
      return await runScript(layer, to)
    case 'reboot':
      return await to.session.reboot({ signal: to.signal, seconds: layer.timeoutSeconds })
  }
}

type ShellLayer = Extract<Layer, { kind: 'shell' }>

/**
 * Reads the secrets that the layers will need, before anything is built: a variable that is not set shows now, and
 * not after minutes. Commands are left for when they are needed: they may ask a person something.
 */
export async function demandSecrets(
  layers: readonly Layer[],
  { secrets, signal }: Pick<Provisioning, 'secrets' | 'signal'>,
): Promise<void> {
  for (const layer of layers) {
    if (layer.kind !== 'shell') continue
    for (const reference of Object.values(layer.secrets)) {
      if (reference.startsWith('cmd:')) continue
      try {
        await secrets.resolve(reference, signal)
      } catch (cause) {
        signal.throwIfAborted()
        const { code, what, why, next } = asImagebuildError(cause)
        throw new ImagebuildError({
          code,
          what: `layer “${layer.name}”: ${what}`,
          where: layer.where,
          ...(why !== undefined && { why }),
          ...(next !== undefined && { next }),
          cause,
        })
      }
    }
  }
}

async function runScript(layer: ShellLayer, to: Provisioning): Promise<void> {
  const env: Record<string, string> = { ...layer.env }
  for (const [name, reference] of Object.entries(layer.secrets)) {
    env[name] = await to.secrets.resolve(reference, to.signal)
  }
  const command = scriptCommand(layer, `/tmp/imagebuild-${randomUUID()}`)
  const result = await runLayer(layer, to, command, env, Readable.from([layer.script]))
  if (result.code !== 0) {
    throw failed(layer, result, {
      why: `it ended with exit code ${result.code}`,
      next: 'mend the script and run again; --on-error keep leaves the guest for you to look into',
    })
  }
}

/**
 * Takes a script from standard input into a file, runs that, and removes it, with the usual umask: a hardened parent's
 * sessions have another. The interpreter of its first line is called by name, since /tmp may be mounted noexec; without one
 * it is `/bin/sh -eu`.
 */
export function scriptCommand({ script, user }: Pick<ShellLayer, 'script' | 'user'>, path: string): string {
  const firstLine = Buffer.from(script).toString('utf8').split('\n', 1)[0] ?? ''
  const interpreter = /^#!\s*(\S.*?)\s*$/.exec(firstLine)?.[1] ?? '/bin/sh -eu'
  const isRoot = user === 'root'
  const become = isRoot ? '' : `HOME="$(getent passwd ${user} | cut -d: -f6)" runuser -u ${user} -- `
  return [
    `trap 'rm -f ${path}' EXIT`,
    'umask 077',
    // Not over what is there: others may write in /tmp, too.
    'set -C',
    `cat > ${path} || exit`,
    'set +C',
    // A connection that is lost looks like the end of the input.
    `[ "$(stat -c %s ${path})" = ${script.byteLength} ] || { echo 'the script did not arrive whole' >&2; exit 255; }`,
    `chmod 0700 ${path}`,
    ...(isRoot ? [] : [`chown ${user} ${path}`]),
    'umask 022',
    `${become}${interpreter} ${path}`,
    '',
  ].join('\n')
}
