import { existsSync, readFileSync } from 'node:fs'
import { readdir, readFile, rmdir } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'

const ROOT = '/sys/fs/cgroup'

/** Milliseconds until the kernel has forgotten the last process of a group. */
const PATIENCE = 2000

/** Only version 2, as on ordinary systems of today; else version 1 with one hierarchy per controller. */
export function isUnified(): boolean {
  return existsSync(join(ROOT, 'cgroup.controllers'))
}

/** The groups of a container, relative to each hierarchy. LXC's own names would be the same in every lab. */
export function groupsOf(name: string): { monitor: string; payload: string; pivot: string } {
  return { monitor: `${name}.monitor`, payload: `${name}.payload`, pivot: `${name}.pivot` }
}

/** Bytes of memory of all processes of a container, without the page cache. */
export async function memoryOf(name: string): Promise<number> {
  const { payload } = groupsOf(name)
  const base = hierarchies().find(({ controllers }) => isUnified() || controllers.includes('memory'))
  const stat = base && (await readFile(join(base.folder, payload, 'memory.stat'), 'utf8').catch(() => ''))
  const key = isUnified() ? 'anon' : 'total_rss'
  return Number(new RegExp(`^${key} (\\d+)$`, 'm').exec(stat ?? '')?.[1] ?? 0)
}

/** Can the controller of version 1 limit this? Kernels are built without some. */
export function hasControl(controller: string, file: string): boolean {
  return existsSync(join(ROOT, controller, file))
}

/** Removes the groups of a container that has ended: LXC does so itself unless it was killed. */
export async function removeGroups(name: string): Promise<void> {
  for (const { folder } of hierarchies()) {
    for (const group of Object.values(groupsOf(name))) await removeGroup(join(folder, group))
  }
}

/**
 * Where LXC makes its groups: beside the first process of this PID namespace, cgroups(7), but not within systemd's own
 * group for it. That is not the root where this runs in a container itself.
 */
function hierarchies(): { controllers: string[]; folder: string }[] {
  const lines = readFileSync('/proc/1/cgroup', 'utf8').split('\n').filter(Boolean)
  return lines.map((line) => {
    const [, names = '', ...rest] = line.split(':')
    const path = rest.join(':').replace(/\/init\.scope$/, '')
    const mount = names === '' ? (isUnified() ? '' : 'unified') : names.replace(/^name=/, '')
    return { controllers: names.split(','), folder: join(ROOT, mount, path) }
  })
}

async function removeGroup(folder: string): Promise<void> {
  const entries = await readdir(folder, { withFileTypes: true }).catch(() => [])
  for (const entry of entries) if (entry.isDirectory()) await removeGroup(join(folder, entry.name))
  const end = performance.now() + PATIENCE
  for (;;) {
    const error = await rmdir(folder).then(
      () => undefined,
      (reason: NodeJS.ErrnoException) => reason,
    )
    if (error?.code !== 'EBUSY' || performance.now() > end) return
    await delay(10)
  }
}
