import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { ImagebuildError } from '../core/errors.ts'
import { faults } from './faults.ts'
import { MAJORS } from './release.ts'

const storage = z.strictObject({
  id: z.string().regex(/^[a-z][a-z0-9_.-]*$/i),
  type: z.enum(['dir', 'lvmthin', 'zfspool']),
  content: z.array(z.enum(['images', 'rootdir', 'iso', 'vztmpl', 'import', 'backup', 'snippets'])),
  /** bytes; beyond them it is full */
  limit: z.int().positive().optional(),
  /** all nodes see the same volumes on it, as on NFS; without it each node has a storage of its own by this name */
  shared: z.boolean().default(false),
})

export type StorageConfig = z.infer<typeof storage>

const DEFAULT_STORAGES: z.input<typeof storage>[] = [
  {
    id: 'local',
    type: 'dir',
    content: ['images', 'iso', 'vztmpl', 'import', 'backup', 'rootdir', 'snippets'],
  },
  { id: 'local-lvm', type: 'lvmthin', content: ['images', 'rootdir'] },
]

const config = z.strictObject({
  /** address to listen on; others than the loopback's let the whole network in */
  host: z.string().default('127.0.0.1'),
  /** 0: any free one */
  port: z.int().min(0).max(65535).default(0),
  /** major version of the Proxmox VE that is played; missing: what it played last, at first the current one */
  pve: z.literal(MAJORS).optional(),
  /** seconds without a client's request, a task or a running guest, after which the lab ends */
  idleSeconds: z.number().positive().default(60),
  /** further nodes, beside `lab`, which is always there */
  nodes: z.array(z.string().regex(/^[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?$/)).default([]),
  storages: z.array(storage).prefault(DEFAULT_STORAGES),
  /** how much of what makes real servers hard to live with this one plays */
  faults: faults.prefault({}),
})

export type LabConfig = z.infer<typeof config>

/**
 * The lab's configuration: `config.json` in its folder, where there is one. IMAGEBUILD_LAB_IDLE_SECONDS overrides.
 * @throws ImagebuildError `definition_invalid`
 */
export async function readConfig(dir: string, env: NodeJS.ProcessEnv = process.env): Promise<LabConfig> {
  const path = join(dir, 'config.json')
  const text = await readFile(path, 'utf8').catch(() => '{}')
  try {
    const idle = env.IMAGEBUILD_LAB_IDLE_SECONDS
    return config.parse({ ...JSON.parse(text), ...(idle && { idleSeconds: Number(idle) }) })
  } catch (cause) {
    throw new ImagebuildError({
      code: 'definition_invalid',
      what: `the lab's configuration ${path} is wrong`,
      why: cause instanceof z.ZodError ? z.prettifyError(cause) : (cause as Error).message,
      next: 'correct or remove it',
      cause,
    })
  }
}
