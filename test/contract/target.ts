import { inject } from 'vitest'
import type { Major } from '../../src/lab/release.ts'
import type { Reply } from './client.ts'
import { clearGround, leaveGround, takeGround } from './ground.ts'
import type { Found } from './held-process.ts'
import { type Played, startLab } from './lab-target.ts'
import type { Own } from './own.ts'
import { realServer } from './real-target.ts'
import type { Server } from './server.ts'

/** What the suite runs against: the lab's API over real storages and real QEMU, or a Proxmox that somebody lends. */
export interface Target extends Settings, Server {
  /** Proxmox VE's major version: some clauses differ */
  version: number
  /** PEM of the server's certificate */
  certificate: string
  /** a VMID of the suite's range that this file has not had yet */
  vmid(): Promise<number>
  /** removes all that the file has made */
  stop(): Promise<void>
}

/** What clauses are tried on in which releases differ: a lab of each, or the server that is lent. */
export const RELEASES: readonly { name: string; pve?: Major }[] = process.env.IMAGEBUILD_TEST_PVE_URL
  ? [{ name: 'the server' }]
  : [
      { name: 'Proxmox VE 9', pve: 9 },
      { name: 'Proxmox VE 8', pve: 8 },
    ]

/** Why a clause is skipped: what the server was not said to have. */
export const NO_ROOT = 'needs a ticket of root@pam: IMAGEBUILD_TEST_PVE_ROOT_PASSWORD is not set'
export const NO_BLOCK = 'needs storage of block devices: IMAGEBUILD_TEST_PVE_BLOCK_STORAGE is not set'
export const NO_SMALL = 'needs a storage that it may fill up: IMAGEBUILD_TEST_PVE_SMALL_STORAGE is not set'
export const NO_OTHER = 'needs a second node: IMAGEBUILD_TEST_PVE_OTHER_NODE is not set'
export const NO_SHARED = 'needs a storage that two nodes share: IMAGEBUILD_TEST_PVE_SHARED_STORAGE is not set'
export const NO_WEB = 'needs a server that can fetch files from here: IMAGEBUILD_TEST_PVE_WEB is not set'
export const NO_TAG_RULES =
  'changes which tags users may set: IMAGEBUILD_TEST_PVE_TAG_RULES=1 does not allow that'
export const NO_CONSOLES = 'needs termproxy on the node: IMAGEBUILD_TEST_PVE_CONSOLES=0 says that it has none'
export const LAB_CONSOLES = 'a stopped guest is refused by the lab in the call, by Proxmox on its console'
export const LAB_FAULTS = 'needs a server that can be told what to get wrong, and when: the lab'
export const LAB_REFUSES = 'what the lab refuses, Proxmox has'
export const LAB_APPLIANCES = 'the list of appliances is the server’s, and names files on the Internet'
export const NO_PROCESSES =
  'holds up processes of the node: IMAGEBUILD_TEST_PVE_PROCESSES is not set, they run elsewhere'

/** What there is at the server; `undefined`: no such thing, and the clauses that need it are skipped. */
export interface Settings {
  node: string
  /** file storage for all contents */
  files: string
  /** storage with raw disks only */
  block: string | undefined
  /** file storage with room for 4 MiB, which can be filled up */
  small: string | undefined
  /** another node of the cluster, with a `files` of its own */
  other: string | undefined
  /** file storage that both nodes share */
  shared: string | undefined
  bridge: string
  /** the bridge of this machine behind it, which who starts containers has to make; undefined: it is there */
  linuxBridge: string | undefined
  /** the lab's list of appliances, which a test may write */
  appliances: string | undefined
  /** address of this machine that the server can fetch files from */
  web: string | undefined
  /** the node has termproxy */
  consoles: boolean
  /** the server's processes are this machine's, so that a test can hold one up */
  processes: boolean
  /** of a process that works on a disk or root: whether it is this guest's, and the suite's */
  isProcessOf(vmid: number, found: Found): boolean | Promise<boolean>
  /** what Proxmox has and the lab has not is refused */
  lab: boolean
}

/** A server before the suite has taken its place there. */
export interface Reached extends Server, Settings {
  certificate: string
  close(): Promise<void>
}

/** @param played what a lab is told; of a real server there is no such thing */
export async function startTarget(played?: Played): Promise<Target> {
  const reached = (await realServer()) ?? (await startLab(played))
  try {
    await takeGround(reached, inject('suiteOwner'))
    const { version } = (await reached.client.get('/version')).body.data as { version: string }
    return {
      ...reached,
      version: Number.parseInt(version, 10),
      vmid: counter(reached.own),
      async stop() {
        try {
          // On a real server the place is the whole run's.
          await (reached.lab ? leaveGround(reached) : clearGround(reached))
        } finally {
          await reached.close()
        }
      },
    }
  } catch (error) {
    await reached.close()
    throw error
  }
}

function counter({ vmids }: Own): () => Promise<number> {
  let next = vmids.first
  return async () => {
    if (next > vmids.last) throw new Error('IMAGEBUILD_TEST_PVE_VMIDS is too small for a file of tests')
    return next++
  }
}

/** For web sockets: exactly the server's certificate, whatever it is called and whoever has signed it. */
export const pinned = ({ certificate }: Target) => ({
  ca: certificate,
  allowPartialTrustChain: true,
  checkServerIdentity: () => undefined,
})

export interface Ended {
  exitstatus: string
  log: string[]
}

/** Waits for a task, or for the one that a reply names, on the node that its UPID names. */
export async function ended({ client }: Target, task: Reply | string): Promise<Ended> {
  const upid = typeof task === 'string' ? task : (task.body.data as string)
  if (typeof upid !== 'string') throw new Error(`no UPID: ${JSON.stringify(task)}`)
  const node = upid.split(':')[1]
  const path = `/nodes/${node}/tasks/${encodeURIComponent(upid)}`
  for (;;) {
    const status = (await client.get(`${path}/status`)).body.data as { status: string; exitstatus: string }
    if (status.status === 'stopped') {
      const lines = (await client.get(`${path}/log`, { limit: 500 })).body.data as { t: string }[]
      return { exitstatus: status.exitstatus, log: lines.map(({ t }) => t) }
    }
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
}
