import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { LabNames } from './names.ts'

/** The files and sockets of one machine. Only the serial console's log outlives it. */
export interface MachineFiles {
  /** the machine's specification: who comes later knows from it what runs there */
  spec: string
  pid: string
  qmp: string
  agent: string
  serial: string
  /** variables of a machine with OVMF and no efidisk: lost when it stops */
  temporaryVars: string
  /** what the serial console has said since the start of the boot */
  serialLog: string
}

export function machineFiles(dir: string, names: LabNames, vmid: number): MachineFiles {
  const at = (suffix: string) => join(names.runtime, `${vmid}.${suffix}`)
  return {
    spec: at('json'),
    pid: at('pid'),
    qmp: at('qmp'),
    agent: at('qga'),
    serial: at('serial'),
    temporaryVars: at('efivars.fd'),
    serialLog: join(dir, 'machines', String(vmid), 'serial.log'),
  }
}

/** Removes what is left of a machine that has ended. */
export async function clear({ serialLog: _, ...runtime }: MachineFiles): Promise<void> {
  for (const path of Object.values(runtime)) await rm(path, { force: true })
}
