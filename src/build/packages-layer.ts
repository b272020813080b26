import { ImagebuildError } from '../core/errors.ts'
import type { Layer } from '../definition/spec.ts'
import { type PackagesLayer, packagesOf } from '../plan/packages-first.ts'
import { missingPackages } from '../source/apt-failure.ts'
import type { RunResult } from '../ssh/session.ts'
import { asLayer, failed, outputTail, type Provisioning, runLayer } from './layer-run.ts'

/** Packages of layers, installed and removed by the guest's apt-get. */

/**
 * Installs what an image begins with, in one transaction. Where nothing is left to install, apt's lists are fetched for
 * later scripts alone.
 * @param brought what the system has already
 * @param later the definition's layers that come after these
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

/**
 * @param askedBy the layers whose packages these are: a failure is told as one of the layer that asks for the package
 * @throws ImagebuildError `build_failed`
 */
export async function installPackages(
  layer: PackagesLayer,
  askedBy: readonly PackagesLayer[],
  to: Provisioning,
): Promise<void> {
  const result = await runLayer(layer, to, packagesScript(layer), {})
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
