import { randomBytes } from 'node:crypto'
import { type Emit, step, type TemplateRow } from '../core/events.ts'
import type { SecretRegistry } from '../core/secrets.ts'
import type { ImageSpec } from '../definition/spec.ts'
import type { Pve } from '../pve/client.ts'
import type { Glance } from '../pve/glance.ts'
import { type Note, type Owner, type State, toTags } from '../pve/marks.ts'
import type { Place } from '../pve/place.ts'
import type { ResolvedFile } from '../source/catalog.ts'
import type { ResolvedRootfs } from '../source/container-catalog.ts'
import type { SourceContext } from '../source/context.ts'
import type { InstalledPackage } from '../updates/pending.ts'

/** What one build is asked to do, and with what. */
export interface BuildRequest {
  image: ImageSpec
  /** what it starts from, as far as that is ours: its parent, the parent's parent, … */
  ancestors: readonly ImageSpec[]
  pve: Pve
  place: Place
  /** all nodes of the target, `place` first; missing: that one alone */
  places?: readonly Place[]
  namespace: string
  options: {
    /** rebuild although nothing changed, and look upstream again */
    force: boolean
    /** look upstream also where an image had to fall back to bootstrapping: the cloud image may be there again */
    lookUpstream?: boolean
    /**
     * build although the digest is the same, from what there is today: see `refresh.ts`. `mends` tells whether what has that
     * digest already, and these packages, has what the build is for.
     */
    refresh?: { mends: (note: Note, packages: readonly InstalledPackage[]) => boolean }
    /** bootstrap anew instead of taking the system from the cache */
    noCache: boolean
    onError: 'cleanup' | 'keep'
    /** full: clones of the template are examined before it counts */
    verify: 'full' | 'off'
  }
  secrets: SecretRegistry
  emit: Emit
  signal: AbortSignal
  /** downloads and bootstrapped systems */
  cacheDir: string
  /** where the keys of a kept guest are written, 0600 */
  keptDir: string
  /** where reports are written, `<image>/<version>/…` */
  reportsDir: string
  /** folder of imagebuild.yaml: places in records are relative to it */
  root: string
  owner: Owner
  /** version of imagebuild, for notes */
  tool: string
  /** what there is, where many images are looked at and nothing is changed; missing: each asks for itself */
  glance?: Glance
  /** with it: what upstream has of releases, by their requests, so that many images of one release ask once */
  releases?: Map<string, Promise<ResolvedFile | ResolvedRootfs>>
  /** told what is current at the end: where something was built, while nobody else may build the image */
  writeDown?: (current: TemplateRow[]) => Promise<void>
}

/** Seconds that the marks of a temporary guest outlive the build's own deadline. */
const EXPIRY_MARGIN = 600

/** A request while it is carried out: who we are in this run, under which deadline. */
export interface Build extends BuildRequest {
  /** names this run in notes and seeds */
  run: string
  /** Unix seconds by the server's clock after which anyone may remove what is temporary */
  expires: number
  /** of the request: somebody wants all this to end */
  interrupted: AbortSignal
  /** name of the node where it is not the target's first: what nodes may share must not be called the same */
  beside?: string
  /** the result serves all nodes of the target: its disks lie on a storage that they share */
  shared?: boolean
}

/** Names this run's files on a storage. */
export function fileToken({ run, beside }: Pick<Build, 'run' | 'beside'>): string {
  return beside === undefined ? run : `${run}-${beside}`
}

/** `signal` is the build's own: the request's, with the deadline and the loss of the claim on top. */
export function beginBuild(request: BuildRequest, signal: AbortSignal): Build {
  return {
    ...request,
    pve: request.pve.withSignal(signal),
    signal,
    interrupted: request.signal,
    run: randomBytes(4).toString('hex'),
    expires: request.pve.clock.after(request.image.build.timeout + EXPIRY_MARGIN),
  }
}

export function tagsOf(
  build: Build,
  vmid: number,
  marks: { state: State; expires: number; address?: string | undefined },
): string {
  const { address, ...rest } = marks
  return toTags({
    vmid,
    namespace: build.namespace,
    image: build.image.name,
    ...rest,
    ...(address !== undefined && { address }),
  })
}

export function noteOf(build: Build, vmid: number, facts: Partial<Note>): Note {
  const { namespace, image, tool, run } = build
  return { schema: 1, vmid, namespace, image: image.name, kind: image.kind, tool, run, ...facts }
}

/** One step of the pipeline, with its events. */
export function during<T>(build: Build, name: string, label: string, work: () => Promise<T>): Promise<T> {
  return step(build.emit, { image: build.image.name, step: name, label }, work)
}

/** One line that something printed during a step. */
export function outputOf(
  build: Build,
  stepName: string,
  stream: 'stdout' | 'stderr' | 'task' | 'console',
): (line: string) => void {
  return (line) => build.emit({ type: 'output', image: build.image.name, step: stepName, stream, line })
}

/** qemu-img's progress, as Proxmox logs it dozens of times in a task that copies a disk. */
const TRANSFERRED = /^transferred \S+ \S+ of (\S+) (\S+) \(([\d.]+)%\)/
const UNITS: Record<string, number> = { B: 1, KiB: 2 ** 10, MiB: 2 ** 20, GiB: 2 ** 30, TiB: 2 ** 40 }

/** One line of a Proxmox task's log; what is only progress becomes that. */
export function taskLine(build: Build, stepName: string): (line: string) => void {
  const output = outputOf(build, stepName, 'task')
  return (line) => {
    const [, size, unit = '', percent] = TRANSFERRED.exec(line) ?? []
    const total = Number(size) * (UNITS[unit] ?? Number.NaN)
    if (Number.isNaN(total)) return output(line)
    const done = (total * Number(percent)) / 100
    build.emit({ type: 'progress', image: build.image.name, step: stepName, done, total, unit: 'bytes' })
  }
}

export function sourceContext(build: Build): SourceContext {
  const { emit, image, cacheDir, signal } = build
  return {
    cacheDir,
    signal,
    onLine: outputOf(build, 'source', 'stdout'),
    onWarning: (message) => emit({ type: 'warning', image: image.name, message }),
    onProgress: (done, total) =>
      emit({
        type: 'progress',
        image: image.name,
        step: 'source',
        done,
        ...(total !== undefined && { total }),
        unit: 'bytes',
      }),
  }
}
