import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'

/** One folder per interface that was switched on: what it was before, and a file per lab that needs it. */
const RECORDS = '/run/imagebuild-lab-forwarding'

const setting = (device: string) => `/proc/sys/net/ipv4/conf/${device}/forwarding`

/**
 * Lets an interface forward IPv4, and remembers what it did before. Forwarding is switched on per interface (the
 * lab's bridge and the uplink), never for the whole machine. The caller holds the network lock.
 */
export async function forward(device: string, bridge: string, records = RECORDS): Promise<void> {
  const folder = join(records, device)
  await mkdir(join(folder, 'labs'), { recursive: true, mode: 0o700 })
  const before = (await readFile(setting(device), 'utf8')).trim()
  const previous = await readFile(join(folder, 'previous'), 'utf8').catch(() => undefined)
  if (previous === undefined) await writeFile(join(folder, 'previous'), before)
  await writeFile(join(folder, 'labs', bridge), '')
  if (before !== '1') await writeFile(setting(device), '1')
}

/** Puts back what was before on each interface that no lab needs any more; a lab without a bridge is gone. */
export async function restoreForwarding(bridge: string, records = RECORDS): Promise<void> {
  for (const device of await readdir(records).catch(() => [])) {
    const folder = join(records, device)
    await rm(join(folder, 'labs', bridge), { force: true })
    const bridges = await readdir('/sys/class/net')
    const others = (await readdir(join(folder, 'labs'))).filter((lab) => bridges.includes(lab))
    if (others.length > 0) continue
    const previous = await readFile(join(folder, 'previous'), 'utf8').catch(() => undefined)
    // The interface may have gone meanwhile, and its setting with it.
    if (previous !== undefined) await writeFile(setting(device), previous).catch(() => undefined)
    await rm(folder, { recursive: true })
  }
  if ((await readdir(records).catch(() => ['-'])).length === 0) await rm(records, { recursive: true })
}
