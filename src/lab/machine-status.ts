import { usage } from './process.ts'
import type { Qmp } from './qmp.ts'
import { traffic } from './traffic.ts'
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
  const [{ status }, blocks, { uptime, resident }, { toGuest, fromGuest }] = await Promise.all([
    qmp.command<{ status: string }>('query-status'),
    qmp.command<BlockStats[]>('query-blockstats'),
    usage(pid),
    traffic(taps),
  ])
  const drives = blocks.filter(({ device }) => device.startsWith('drive-'))
  return {
    running: true,
    qmpstatus: status,
    pid,
    uptime,
    mem: resident,
    netin: toGuest,
    netout: fromGuest,
    diskread: sum(drives.map(({ stats }) => stats.rd_bytes)),
    diskwrite: sum(drives.map(({ stats }) => stats.wr_bytes)),
  }
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0)
}
