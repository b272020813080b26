import { permissionError } from '../errors.ts'
import { parseSize } from '../guests/drives.ts'
import type { GuestConfig } from '../guests/store.ts'
import type { Lab } from '../router.ts'
import type { TaskContext } from '../tasks.ts'
import { backedUpConfig } from './pct-conf.ts'
import { archivePath, createRoot, DEFAULT_SIZE, type Plan } from './root.ts'
import { containerSpec, DEFAULT_MEMORY, DEFAULT_SWAP } from './spec.ts'
import { asTemplate } from './template.ts'
import { isNet, parseRoot, withNewMac } from './values.ts'

/** What a backup does not bring back as it was: volumes are made anew. */
const NOT_RESTORED = /^(rootfs|mp\d+|unused\d+|template|lock|parent|unprivileged)$/

export async function restoreContainer(
  lab: Lab,
  plan: Plan,
  created: string[],
  task: TaskContext,
): Promise<GuestConfig> {
  const { vmid, settings, archive, unique, mayBePrivileged } = plan
  const { log, signal } = task
  log(`recovering backed-up configuration from '${archive}'`)
  const path = await archivePath(lab, archive)
  const before = await backedUpConfig(path)
  const size = before.rootfs === undefined ? undefined : parseRoot(before.rootfs).size
  const unprivileged = plan.unprivileged ?? before.unprivileged === 1
  if (!unprivileged && !mayBePrivileged) throw permissionError('/, Sys.Modify')
  const rootfs = await createRoot(
    lab,
    plan,
    size === undefined ? DEFAULT_SIZE : parseSize(size),
    created,
    task,
  )
  const given = { ...settings, rootfs, ...(unprivileged && { unprivileged: 1 }) }
  log(`restoring '${archive}' now..`)
  await lab.containers.restore(
    await containerSpec(lab, vmid, { ...before, unprivileged: 0, ...given }),
    path,
    log,
    signal,
  )
  log('merging backed-up and given configuration..')
  const config: GuestConfig = { memory: DEFAULT_MEMORY, swap: DEFAULT_SWAP, arch: 'amd64', ...given }
  for (const [name, value] of Object.entries(before)) {
    if (NOT_RESTORED.test(name) || settings[name] !== undefined) continue
    config[name] = unique && isNet(name) ? withNewMac(value) : value
  }
  if (before.template !== 1) return config
  log('Convert restored container to template...')
  const base = await asTemplate(lab, config)
  created.push(base.volid)
  return base.config
}
