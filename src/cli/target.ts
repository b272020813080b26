import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { suggest } from '../core/did-you-mean.ts'
import { ImagebuildError } from '../core/errors.ts'
import type { Emit } from '../core/events.ts'
import { shellWord } from '../core/shell-word.ts'
import type { Config } from '../definition/config.ts'
import type { PveTarget, Target } from '../definition/config-schema.ts'
import type { Project } from '../definition/load.ts'
import type { LabConnection } from '../lab/connection.ts'
import type { Pve, PveConnection } from '../pve/client.ts'
import type { Place, VmidRange } from '../pve/place.ts'
import { labFolder } from './folders.ts'
import type { Invocation } from './invocation.ts'
import { hintsForLab } from './lab-hints.ts'
import { isOnCi } from './on-ci.ts'
import { credentials, endpointOf, trust } from './target-login.ts'

/**
 * From a target in imagebuild.yaml to a connection. The only place that knows of the lab: from here on it is a
 * Proxmox like any other.
 */
export interface Connected extends AsyncDisposable {
  pve: Pve
  /** ends what is done here: the invocation's, and the target's own end */
  signal: AbortSignal
  /** the first of `places` */
  place: Place
  /** one for each node of the target, in its order */
  places: readonly Place[]
}

/**
 * The target that was asked for, or the project's default; hints are about it from now on. On CI there is no default: a build must
 * not end in a lab unnoticed.
 */
export function chooseTarget(project: Config, asked: string | undefined): { name: string; target: Target } {
  const names = Object.keys(project.targets)
  const only = names.length === 1 ? names[0] : undefined
  const onCi = isOnCi()
  const name = asked || (onCi ? undefined : (project.defaultTarget ?? only))
  if (name === undefined) {
    throw new ImagebuildError({
      code: 'usage',
      what: 'no target is chosen',
      why: onCi ? 'with CI set, the default target does not count' : 'imagebuild.yaml names no default',
      next: `give --target or IMAGEBUILD_TARGET: one of ${names.join(', ')}`,
    })
  }
  const target = Object.hasOwn(project.targets, name) ? project.targets[name] : undefined
  if (target === undefined) {
    const hint = suggest(name, names)
    throw new ImagebuildError({
      code: 'usage',
      what: `there is no target ${name} in ${project.configFile}`,
      next: hint ?? `one of ${names.join(', ')}`,
    })
  }
  hintsForLab(target.kind === 'lab' ? labFolder() : undefined)
  return { name, target }
}

export async function connectTarget(
  invocation: Invocation,
  project: Config & Partial<Pick<Project, 'fixedVmids'>>,
  asked: string | undefined,
  emit: Emit,
): Promise<Connected> {
  // It and what it needs are slow to load, which commands of one request do without.
  const { connect } = await import('../pve/client.ts')
  const { name, target } = chooseTarget(project, asked)
  const common = {
    target: name,
    vmids: {
      templates: range(target.vmids.templates),
      claims: range(target.vmids.claims),
      ...(project.fixedVmids && { fixed: project.fixedVmids }),
    },
    macPrefix: target.macPrefix,
    ...(target.pool !== undefined && { pool: target.pool }),
  }
  if (target.kind === 'lab') {
    const { ensureLab } = await import('../lab/lab.ts')
    const { installMissing, LAB_HOST } = await import('./prerequisites.ts')
    await installMissing(LAB_HOST, emit)
    const { nodes } = target
    const lab = await ensureLab({
      dir: labFolder(),
      signal: invocation.signal,
      emit,
      ...(nodes !== undefined && { nodes }),
    })
    const { watchLab } = await import('./lab-end.ts')
    await using stack = new AsyncDisposableStack()
    const watched = stack.use(watchLab(labFolder(), lab.pid, invocation.signal))
    invocation.explain = watched.explain
    const { signal } = watched
    const pve = stack.use(await connect({ ...connectionToLab(watched, lab), ended: watched.ended }))
    invocation.talksTo = named(pve, name)
    const { network } = lab
    const ssh = { ...(await sshOf(target)), ...(target.ssh.ca.length === 0 && (await sshOfLab())) }
    return connected({ pve, signal, owned: stack.move() }, nodes ?? [lab.node], {
      ...common,
      storages: withArchives(target.storages),
      bridge: lab.bridge,
      addresses: { ...network.pool, prefix: Number(network.cidr.split('/')[1]), gateway: network.gateway },
      dns: [network.dns].flat(),
      ssh,
    })
  }
  const { requireNodesOfTarget } = await import('../pve/nodes.ts')
  await using stack = new AsyncDisposableStack()
  const pve = stack.use(await connect(await connectionTo(invocation, project, target)))
  invocation.talksTo = named(pve, name)
  const nodes = nodesOf(target)
  await requireNodesOfTarget(pve, name, nodes)
  const ssh = await sshOf(target)
  const { signal } = invocation
  return connected({ pve, signal, owned: stack.move() }, nodes, {
    ...common,
    storages: withArchives(target.storages),
    bridge: target.bridge,
    ...(target.vlan !== undefined && { vlan: target.vlan }),
    ...addressesOf(target),
    dns: target.dns,
    ssh,
  })
}

/** For whoever reads an error that somebody else has had. */
function named({ version }: Pve, target: string): string {
  return `Proxmox VE ${version.text} (target ${target})`
}

async function connectionTo(
  invocation: Invocation,
  project: Config,
  target: PveTarget,
): Promise<PveConnection> {
  return {
    endpoint: endpointOf(target),
    auth: await credentials(invocation, target),
    tls: await trust(project, target),
    signal: invocation.signal,
  }
}

/** How to reach a target, and its nodes, where nothing else is asked of it; undefined: a lab that does not run. */
export async function reachTarget(
  invocation: Invocation,
  project: Config,
  asked: string | undefined,
): Promise<{ connection: PveConnection; nodes: readonly string[] } | undefined> {
  const { target } = chooseTarget(project, asked)
  if (target.kind === 'pve')
    return { connection: await connectionTo(invocation, project, target), nodes: nodesOf(target) }
  const { runningLab } = await import('../lab/connection.ts')
  const lab = await runningLab(labFolder())
  return lab && { connection: connectionToLab(invocation, lab), nodes: target.nodes ?? [lab.node] }
}

function connectionToLab({ signal }: Pick<Invocation, 'signal'>, lab: LabConnection): PveConnection {
  return {
    endpoint: lab.endpoint,
    auth: { kind: 'token', token: lab.token },
    tls: { fingerprint: lab.fingerprint },
    signal,
  }
}

async function sshOf({ ssh: { ca, revokedKeys, signer } }: Target): Promise<Place['ssh']> {
  return {
    authorities: ca,
    ...(revokedKeys !== undefined && { revokedKeys: await readFile(revokedKeys) }),
    ...(signer !== undefined && { signer }),
  }
}

/** The lab has a CA of its own, so that certificates can be tried without making one. */
async function sshOfLab(): Promise<Place['ssh']> {
  const { ensureAuthority } = await import('../ssh/ca/authority.ts')
  const folder = join(labFolder(), 'ssh-ca')
  const { userCa } = await ensureAuthority(folder)
  return { authorities: userCa, signer: folder }
}

/** @param nodes at least one: the schema says so */
function connected(
  { owned, ...by }: { pve: Pve; signal: AbortSignal; owned: AsyncDisposableStack },
  nodes: readonly string[],
  everywhere: Omit<Place, 'node'>,
): Connected {
  const places = nodes.map((node) => ({ ...everywhere, node }))
  const [place] = places
  if (place === undefined) throw new TypeError(`target ${everywhere.target} has no node`)
  return { ...by, place, places, [Symbol.asyncDispose]: () => owned.disposeAsync() }
}

/** `nodes`, or `node` alone: the schema says that there is one of them. */
export function nodesOf({ node = '', nodes = [node] }: PveTarget): string[] {
  return nodes
}

/** The pool of addresses that a target's guests may have; nothing with DHCP. */
export function addressesOf({ addresses }: PveTarget): Pick<Place, 'addresses'> {
  if (addresses === 'dhcp') return {}
  const { range, prefix, gateway } = addresses
  return { addresses: { ...pool(range), prefix, gateway } }
}

/** Where nothing else is said, containers' archives lie with the other images. */
export function withArchives(storages: Target['storages']): Place['storages'] {
  return { ...storages, archives: storages.archives ?? storages.images }
}

function range(text: string): VmidRange {
  const [first = 0, last = 0] = text.split('-').map(Number)
  return { first, last }
}

function pool(text: string): { first: string; last: string } {
  const [first = '', last = ''] = text.split('-')
  return { first, last }
}

/** For the command that a hint names: the default target may be another one. */
export function onTarget(asked: string | undefined): string {
  return asked === undefined ? '' : ` --target ${shellWord(asked)}`
}
