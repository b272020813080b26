import { ensureLab } from '../../../src/lab/lab.ts'
import { connect, type Pve } from '../../../src/pve/client.ts'
import { destroyGuest } from '../../../src/pve/destroy.ts'
import { type GuestKind, nodeGuests } from '../../../src/pve/guest-ref.ts'
import type { VmidRange } from '../../../src/pve/place.ts'
import { LAB_DIR, makeProject, type Project } from '../../e2e/harness.ts'
import { type Call, type ProxyOptions, startProxy } from '../proxy.ts'

/**
 * Where one runner is killed over and over: a project with one image, a namespace, VMIDs and addresses of its own on the
 * tests' lab, and a proxy before that. What looks at the results goes to the lab directly.
 */
export interface Ground extends AsyncDisposable {
  name: string
  image: string
  kind: GuestKind
  namespace: string
  /** of templates, fixed ones and claims: nobody else has guests in it */
  vmids: VmidRange
  node: string
  project: Project
  /** straight to the lab */
  pve: Pve
  /** what the proxy does until the next change of it; none: everything passes */
  trap: Pick<ProxyOptions, 'decide' | 'answered'>
  calls: readonly Call[]
  /** the definition, changed: another version is wanted */
  change(): Promise<void>
  /** runs through the proxy */
  through(args: readonly string[]): ReturnType<Project['imagebuild']>
  /** runs straight to the lab */
  direct(args: readonly string[]): ReturnType<Project['imagebuild']>
  /** what commands need in their environment, to whichever of the two */
  environment(target: 'direct' | 'proxied'): Record<string, string>
}

export interface GroundOptions {
  name: string
  kind: GuestKind
  /** grounds beside each other have different ones */
  index: number
  storage: string
  /** the image's definition but for its name and kind; `turn` differs for each version */
  definition: (turn: number, vmids: VmidRange) => string
}

/** VMIDs that a ground has: 50 for guests, then 10 for claims. */
const SIZE = 100
const FIRST = 20_000
/** Addresses that a ground has, of the hundred of a lab. */
const ADDRESSES = 30

export async function openGround({ name, kind, index, storage, definition }: GroundOptions): Promise<Ground> {
  await using stack = new AsyncDisposableStack()
  const signal = new AbortController().signal
  const lab = await ensureLab({ dir: LAB_DIR, signal, emit: () => {}, stay: true })
  const ground = {} as Ground
  const proxy = stack.use(
    await startProxy({
      upstream: lab,
      decide: (call) => ground.trap.decide?.(call) ?? 'pass',
      answered: (call, answer) => ground.trap.answered?.(call, answer),
    }),
  )
  const first = FIRST + index * SIZE
  const vmids = { first, last: first + SIZE - 1 }
  const namespace = `kill-${name}`
  const image = `img-${name}`
  const target = (endpoint: string, fingerprint: string) =>
    [
      `{ kind: pve, endpoint: "${endpoint}", fingerprint: "${fingerprint}", token: "env:LAB_TOKEN", node: ${lab.node}`,
      `storages: { disks: ${storage}, images: local }, bridge: ${lab.bridge}`,
      `vmids: { templates: ${first}-${first + 49}, claims: ${first + 90}-${first + 99} }`,
      `addresses: { range: ${addresses(lab.network.pool.first, index)}, prefix: 24, gateway: ${lab.network.gateway} }`,
      `dns: [${lab.network.dns}] }`,
    ].join(', ')
  const project = stack.use(
    await makeProject({
      'imagebuild.yaml': `namespace: ${namespace}\ntargets:\n  direct: ${target(lab.endpoint, lab.fingerprint)}\n  proxied: ${target(proxy.endpoint, proxy.fingerprint)}\n`,
    }),
  )
  const pve = stack.use(
    await connect({
      endpoint: lab.endpoint,
      auth: { kind: 'token', token: lab.token },
      tls: { fingerprint: lab.fingerprint },
      signal,
    }),
  )
  const environment = (target: 'direct' | 'proxied') => ({
    ...{ LAB_TOKEN: lab.token, IMAGEBUILD_VERIFY: 'full', IMAGEBUILD_TARGET: target },
  })
  stack.defer(() => clearOut(pve, lab.node, vmids))
  const run = (target: 'direct' | 'proxied') => (args: readonly string[]) =>
    project.imagebuild(args, { env: environment(target) })
  let turn = 0
  const owned = stack.move()
  return Object.assign(ground, {
    ...{ name, image, kind, namespace, vmids, node: lab.node, project, pve },
    trap: {},
    calls: proxy.calls,
    change: async () => {
      turn += 1
      const text = `name: ${image}\nkind: ${kind}\n${definition(turn, vmids)}\n`
      await project.write({ [`images/${image}/image.yaml`]: text })
    },
    through: run('proxied'),
    direct: run('direct'),
    environment,
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  })
}

/** Whoever comes next may have the same VMIDs. */
async function clearOut(pve: Pve, node: string, { first, last }: VmidRange): Promise<void> {
  const signal = AbortSignal.timeout(300_000)
  const guests = (await nodeGuests(pve, node)).filter(({ vmid }) => vmid >= first && vmid <= last)
  // Clones before what they are clones of.
  guests.sort((a, b) => Number(a.template ?? 0) - Number(b.template ?? 0))
  for (const { kind, vmid } of guests) await destroyGuest(pve, { kind, node, vmid, signal })
}

function addresses(pool: string, index: number): string {
  const [prefix, last] = [pool.slice(0, pool.lastIndexOf('.')), Number(pool.slice(pool.lastIndexOf('.') + 1))]
  const begin = last + index * ADDRESSES
  return `${prefix}.${begin}-${prefix}.${begin + ADDRESSES - 1}`
}
