import { resolve } from 'node:path'
import { suggest } from '../core/did-you-mean.ts'
import { absoluteReference, isSecretReference } from '../core/secrets.ts'
import { checkCa } from './ca-file.ts'
import { type ConfigFile, configFile, type PveTarget, type Target } from './config-schema.ts'
import type { Diagnostic } from './diagnostics.ts'
import { loadTargetSsh } from './ssh.ts'
import type { Path, YamlFile } from './yaml-file.ts'

/**
 * The targets of imagebuild.yaml, their paths made absolute, with all that can be checked without a network.
 * A target that is wrong in itself is left out; what the schema says of it is told elsewhere.
 * @param valid the whole file, where nothing in it is wrong
 */
export async function loadTargets(
  yaml: YamlFile,
  valid: ConfigFile | undefined,
  root: string,
  report: (found: Diagnostic) => void,
): Promise<Record<string, Target>> {
  const { target: chosen, targets: written } = (yaml.value ?? {}) as { target?: unknown; targets?: unknown }
  if (typeof written !== 'object' || written === null || Array.isArray(written)) return {}
  const names = Object.keys(written)
  if (names.length === 0) {
    const hint = 'for example: lab: { kind: lab }'
    report(yaml.diagnostic(yaml.keyAt(['targets']), '`targets` needs at least one target', hint))
  }
  if (typeof chosen === 'string' && !names.includes(chosen)) {
    const message = `there is no target \`${chosen}\``
    report(yaml.diagnostic(yaml.at(['target']), message, suggest(chosen, names, 'targets')))
  }
  const targets: Record<string, Target> = {}
  for (const [name, one] of Object.entries(written)) {
    const target = valid?.targets[name] ?? configFile.shape.targets.valueType.safeParse(one).data
    if (target === undefined) continue
    const path = ['targets', name]
    checkVmids(target, path, yaml, report)
    checkNodes(target, path, yaml, report)
    const ssh = await loadTargetSsh(target.ssh, [...path, 'ssh'], root, { yaml, report })
    const loaded = target.kind === 'pve' ? await loadPve(target, path, yaml, root, report) : target
    targets[name] = { ...loaded, ssh }
  }
  return targets
}

async function loadPve(
  target: PveTarget,
  path: Path,
  yaml: YamlFile,
  root: string,
  report: (found: Diagnostic) => void,
): Promise<PveTarget> {
  checkAddresses(target, path, yaml, report)
  const loaded = { ...target }
  for (const key of ['token', 'password'] as const) {
    const reference = target[key]
    if (reference !== undefined && isSecretReference(reference))
      loaded[key] = absoluteReference(reference, root)
  }
  if (target.ca !== undefined) {
    loaded.ca = resolve(root, target.ca)
    await checkCa(loaded.ca, [...path, 'ca'], { yaml, report })
  }
  return loaded
}

function checkNodes(target: Target, path: Path, yaml: YamlFile, report: (found: Diagnostic) => void): void {
  for (const [index, node] of (target.nodes ?? []).entries()) {
    if (target.nodes?.indexOf(node) === index) continue
    report(yaml.diagnostic(yaml.at([...path, 'nodes', index]), `node \`${node}\` is listed twice`))
  }
}

function checkVmids(target: Target, path: Path, yaml: YamlFile, report: (found: Diagnostic) => void): void {
  const at = (key: string) => yaml.at([...path, 'vmids', key])
  const bounds = (range: string) => range.split('-').map(Number) as [number, number]
  const [templates, claims] = [bounds(target.vmids.templates), bounds(target.vmids.claims)]
  for (const [key, [first, last]] of [
    ['templates', templates],
    ['claims', claims],
  ] as const) {
    if (first > last)
      report(yaml.diagnostic(at(key), `\`${key}\` ends before it starts`, `write ${last}-${first}`))
  }
  if (templates[0] <= claims[1] && claims[0] <= templates[1]) {
    const message = `\`claims\` (${target.vmids.claims}) overlaps \`templates\` (${target.vmids.templates})`
    report(yaml.diagnostic(at('claims'), message))
  }
}

function checkAddresses(
  target: PveTarget,
  path: Path,
  yaml: YamlFile,
  report: (found: Diagnostic) => void,
): void {
  if (target.addresses === 'dhcp') return
  const { range, prefix, gateway } = target.addresses
  const complain = (key: string, message: string, hint?: string) =>
    report(yaml.diagnostic(yaml.at([...path, 'addresses', key]), message, hint))
  const [from = '', to = ''] = range.split('-')
  const [first, last, router] = [toNumber(from), toNumber(to), toNumber(gateway)]
  if (first > last) {
    complain('range', '`range` ends before it starts', `write ${to}-${from}`)
    return
  }
  const size = 2 ** (32 - prefix)
  const network = Math.floor(first / size) * size
  if (last >= network + size) complain('range', `\`range\` is larger than one /${prefix} network`)
  else if (first === network || last === network + size - 1) {
    complain('range', '`range` holds the address of the network itself or its broadcast address')
  }
  if (router <= network || router >= network + size - 1) {
    complain('gateway', `\`gateway\` is not in the network of the range, ${toText(network)}/${prefix}`)
  } else if (router >= first && router <= last) {
    complain('gateway', '`gateway` lies within the range: a guest would be given its address')
  }
}

function toNumber(address: string): number {
  return address.split('.').reduce((sum, octet) => sum * 256 + Number(octet), 0)
}

function toText(address: number): string {
  return [24, 16, 8, 0].map((shift) => Math.floor(address / 2 ** shift) % 256).join('.')
}
