import { readFile } from 'node:fs/promises'
import { usage } from './process.ts'
import type { Qmp } from './qmp.ts'
import type { MachineStatus } from './world.ts'

export const STOPPED: MachineStatus = {
  running: false,
  qmpstatus: 'stopped',
  uptime: 0,
  mem: 0,
  netin: 0,
  netout: 0,
  diskread: 0,
  diskwrite: 0,
}

interface BlockStats {
  device: string
  stats: { rd_bytes: number; wr_bytes: number }
}

/** What QEMU, its process and the kernel's counters of its taps say. */
export async function machineStatus(pid: number, qmp: Qmp, taps: readonly string[]): Promise<MachineStatus> {
  const [{ status }, blocks, { uptime, resident }, traffic] = await Promise.all([
    qmp.command<{ status: string }>('query-status'),
    qmp.command<BlockStats[]>('query-blockstats'),
    usage(pid),
    Promise.all(taps.map(counters)),
  ])
  const drives = blocks.filter(({ device }) => device.startsWith('drive-'))
  return {
    running: true,
    qmpstatus: status,
    pid,
    uptime,
    mem: resident,
    netin: sum(traffic.map(({ toGuest }) => toGuest)),
    netout: sum(traffic.map(({ fromGuest }) => fromGuest)),
    diskread: sum(drives.map(({ stats }) => stats.rd_bytes)),
    diskwrite: sum(drives.map(({ stats }) => stats.wr_bytes)),
  }
}

/** A tap sends what the guest receives. */
async function counters(tap: string): Promise<{ toGuest: number; fromGuest: number }> {
  const read = async (name: string) =>
    Number(await readFile(`/sys/class/net/${tap}/statistics/${name}`, 'utf8').catch(() => '0'))
  return { toGuest: await read('tx_bytes'), fromGuest: await read('rx_bytes') }
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0)
}
