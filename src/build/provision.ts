import { randomUUID } from 'node:crypto'
import { Readable } from 'node:stream'
import { asImagebuildError, ImagebuildError } from '../core/errors.ts'
import type { Emit } from '../core/events.ts'
import { DeadlineError } from '../core/scope.ts'
import type { SecretRegistry } from '../core/secrets.ts'
import type { Layer } from '../definition/spec.ts'
import { type PackagesLayer, packagesOf } from '../plan/packages-first.ts'
import { missingPackages } from '../source/apt-failure.ts'
import { lastLines } from '../ssh/output.ts'
import type { RunResult, Session } from '../ssh/session.ts'

/** What a layer needs to run: a way into the guest, and somebody to tell. */
export interface Provisioning {
  session: Session
  secrets: SecretRegistry
  image: string
  signal: AbortSignal
  emit: Emit
}

/**
 * Applies one layer to the guest.
 * @throws ImagebuildError `build_failed` with the layer's place in the definition and its last output
 */
export async function provision(layer: Layer, to: Provisioning): Promise<void> {
  await asLayer(layer, to, () => apply(layer, to))
}

/**
 * Installs what an image begins with, in one transaction. Where nothing is left to install, apt's lists are fetched for
 * later scripts alone.
 * @param brought what the system has already
 * @param later layers that come after these
 * @throws ImagebuildError `build_failed`, with the place of the layer that names a package which is nowhere to be had
 */
export async function provisionFirst(
  layers: readonly PackagesLayer[],
  brought: readonly string[],
  later: readonly Layer[],
  to: Provisioning,
): Promise<void> {
  const [first] = layers
  const install = packagesOf(layers, brought)
  if (first === undefined || (install.length === 0 && !later.some(callsApt))) return
  const timeoutSeconds = layers.reduce((sum, layer) => sum + layer.timeoutSeconds, 0)
  const name = layers.map((layer) => layer.name).join('; ')
  const whole = { ...first, name, install, timeoutSeconds }
  await asLayer(whole, to, () => installPackages(whole, layers, to))
}

/** A script that installs something by itself expects what every packages layer has left so far: lists of what there is. */
function callsApt(layer: Layer): boolean {
  return layer.kind === 'shell' && /\bapt(-get|itude)?\b/.test(Buffer.from(layer.script).toString('latin1'))
}

async function asLayer(layer: Layer, to: Provisioning, work: () => Promise<void>): Promise<void> {
  try {
    await work()
  } catch (error) {
    if (to.signal.aborted || (error instanceof ImagebuildError && error.where !== undefined)) throw error
    const cause = error instanceof ImagebuildError ? error : undefined
    const isLate = [error, cause?.cause].some((one) => one instanceof DeadlineError)
    throw new ImagebuildError({
      code: cause?.code ?? 'build_failed',
      what: `layer “${layer.name}” failed`,
      where: layer.where,
      why: isLate
        ? `it ran longer than its timeout of ${layer.timeoutSeconds} s`
        : (cause?.message ?? (error as Error).message),
      ...(cause && { output: cause.output }),
      next:
        cause?.next ??
        (isLate
          ? 'raise its `timeout` in the definition if it needs more; --on-error keep leaves the guest for you to look into'
          : 'run again with --on-error keep to look into the guest'),
      cause: error,
    })
  }
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
 * Once per build and change of the sources, `apt-get update`; then all packages in one transaction. Waits for
 * another apt (unattended upgrades of the first boot) instead of failing.
 */
export function packagesScript(layer: PackagesLayer): string {
  // A guest that loses its power now is no template: nothing need be on the disk before the seal's end.
  const apt =
    'apt-get -q -y -o DPkg::Lock::Timeout=600 -o Dpkg::Use-Pty=0 -o Dpkg::Options::=--force-confold -o Dpkg::Options::=--force-unsafe-io'
  return [
    'set -eu',
    'umask 022',
    // English, so that its complaints can be understood below.
    'export DEBIAN_FRONTEND=noninteractive NEEDRESTART_MODE=a LC_ALL=C.UTF-8',
    'stamp=/run/imagebuild-apt-updated',
    'if [ ! -e "$stamp" ] || [ -n "$(find /etc/apt -newer "$stamp" -print -quit)" ]; then',
    '  tries=0',
    `  until ${apt} -o Acquire::Retries=3 -o Acquire::Languages=none -o APT::Update::Error-Mode=any update; do`,
    '    tries=$((tries + 1))',
    '    if [ "$tries" -ge 5 ]; then exit 100; fi',
    '    sleep 3',
    '  done',
    '  touch "$stamp"',
    'fi',
    ...(layer.upgrade ? [`${apt} full-upgrade`] : []),
    ...(layer.remove.length > 0 ? [`${apt} purge --autoremove ${layer.remove.join(' ')}`] : []),
    ...(layer.install.length > 0
      ? [`${apt} -o Acquire::Retries=3 --no-install-recommends install ${layer.install.join(' ')}`]
      : []),
    '',
  ].join('\n')
}

async function installPackages(
  layer: PackagesLayer,
  askedBy: readonly PackagesLayer[],
  to: Provisioning,
): Promise<void> {
  const result = await run(layer, to, packagesScript(layer), {})
  if (result.code === 0) return
  const missing = missingPackages(`${result.stdout}\n${result.stderr}`)
  if (missing.length > 0) throw layerWithout(askedBy, missing, result)
  const broken = brokenPackages(result)
  const culprit = askedBy.find((one) => one.install.some((name) => broken.includes(bare(name))))
  throw failed(culprit ?? layer, result, {
    why: `apt-get ended with exit code ${result.code}`,
    next: 'read the lines above; if a mirror was unreachable, run again',
  })
}

/** Packages whose scripts have failed, as apt-get lists them at its end. */
function brokenPackages({ stdout, stderr }: RunResult): string[] {
  const [, list = ''] =
    /Errors were encountered while processing:\n((?: \S+\n?)+)/.exec(`${stdout}\n${stderr}`) ?? []
  return list.split('\n').map((line) => line.trim())
}

/** Without the version that is asked for. */
function bare(name: string): string {
  return name.replace(/=.*/, '')
}

/** The failure of the layer that asks for a package which is nowhere to be had. */
export function layerWithout(
  layers: readonly PackagesLayer[],
  missing: readonly string[],
  result?: RunResult,
): ImagebuildError {
  const asks = ({ install }: PackagesLayer) => install.some((name) => missing.includes(bare(name)))
  const layer = layers.find(asks) ?? layers[0]
  return new ImagebuildError({
    code: 'build_failed',
    what: `layer “${layer?.name}” failed`,
    ...(layer && { where: layer.where }),
    why: `no such package in the guest’s sources: ${missing.join(', ')}`,
    ...(result && { output: outputTail(result) }),
    next: 'check the spelling, or add the repository in an earlier layer',
  })
}

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
  const result = await run(layer, to, command, env, Readable.from([layer.script]))
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

async function run(
  layer: Layer,
  to: Provisioning,
  command: string,
  env: Record<string, string>,
  stdin?: Readable,
): Promise<RunResult> {
  return await to.session.run(command, {
    sudo: true,
    env,
    ...(stdin && { stdin }),
    seconds: layer.timeoutSeconds,
    signal: to.signal,
    onLine: (stream, line) => to.emit({ type: 'output', image: to.image, step: 'layer', stream, line }),
  })
}

function failed(layer: Layer, result: RunResult, facts: { why: string; next: string }): ImagebuildError {
  return new ImagebuildError({
    code: 'build_failed',
    what: `layer “${layer.name}” failed`,
    where: layer.where,
    ...facts,
    output: outputTail(result),
  })
}

/** The last lines of what a command printed, for an error: those on stderr, which tell most, at the end. */
export function outputTail({ stdout, stderr }: RunResult): string[] {
  const printed = [stdout, stderr].map((text) => text.trimEnd()).filter((text) => text !== '')
  return lastLines(printed.join('\n'))
}
