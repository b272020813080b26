import { readFile, statfs } from 'node:fs/promises'
import { execa } from 'execa'
import { usage } from '../process.ts'
import { traffic } from '../traffic.ts'
import type { ContainerInterface, ContainerStatus } from '../world.ts'
import { memoryOf } from './cgroups.ts'

export const STOPPED: ContainerStatus = { running: false, uptime: 0, mem: 0, disk: 0, netin: 0, netout: 0 }

/** The container's init, which is the only child of LXC's monitor; undefined while it reboots. */
export async function initOf(monitor: number): Promise<number | undefined> {
  const children = await readFile(`/proc/${monitor}/task/${monitor}/children`, 'utf8').catch(() => '')
  return Number(children.split(' ')[0]) || undefined
}

/** What the kernel knows of the container called `name` in LXC; `veths`: the node's ends of its interfaces. */
export async function containerStatus(
  name: string,
  monitor: number,
  veths: readonly string[],
): Promise<ContainerStatus> {
  const pid = await initOf(monitor)
  if (pid === undefined) return { ...STOPPED, running: true }
  const [{ uptime }, mem, root, { toGuest, fromGuest }] = await Promise.all([
    usage(pid),
    memoryOf(name),
    statfs(`/proc/${pid}/root`),
    traffic(veths),
  ])
  const disk = (root.blocks - root.bfree) * root.bsize
  return { running: true, pid, uptime, mem, disk, netin: toGuest, netout: fromGuest }
}

interface Link {
  ifname: string
  address?: string
  addr_info: { family: string; local: string; prefixlen: number }[]
}

/** Its interfaces as it sees them, loopback first. */
export async function containerInterfaces(monitor: number): Promise<ContainerInterface[]> {
  const pid = await initOf(monitor)
  if (pid === undefined) return []
  const { stdout } = await execa('nsenter', [`--net=/proc/${pid}/ns/net`, 'ip', '-json', 'address'])
  return (JSON.parse(stdout) as Link[]).map(({ ifname, address, addr_info }) => ({
    name: ifname,
    mac: address ?? '00:00:00:00:00:00',
    addresses: addr_info
      .filter((info) => info.family === 'inet' || info.family === 'inet6')
      .map(({ family, local, prefixlen }) => ({
        family: family as 'inet' | 'inet6',
        address: local,
        prefix: prefixlen,
      })),
  }))
}
