import { join } from 'node:path'
import type { LabNames } from '../names.ts'

/** The files of one container. Only the console's log outlives it. */
export interface ContainerFiles {
  /** LXC's folder of the container */
  folder: string
  /** LXC's configuration */
  config: string
  seccomp: string
  /** the container's specification: who comes later knows from it what runs there */
  spec: string
  /** of LXC's monitor, which lives as long as the container */
  pid: string
  /** what LXC has to say */
  log: string
  /** what the console printed since the last start */
  consoleLog: string
}

export function containerFiles(dir: string, names: LabNames, vmid: number): ContainerFiles {
  const folder = join(names.lxcPath, names.container(vmid))
  const at = (file: string) => join(folder, file)
  return {
    folder,
    config: at('config'),
    seccomp: at('seccomp'),
    spec: at('spec.json'),
    pid: at('monitor.pid'),
    log: at('lxc.log'),
    consoleLog: join(dir, 'containers', String(vmid), 'console.log'),
  }
}
