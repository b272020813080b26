import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { ensureLab } from '../../src/lab/lab.ts'
import { LAB_DIR, makeProject, type Project } from '../e2e/harness.ts'
import { tinySource } from './tiny-system.ts'

/** Builds in seconds: the tiny system, on a lab that the definition's target reaches as any Proxmox. */

/** All of the campaign, or what CI does of it. */
export const FULL = process.env.IMAGEBUILD_CAMPAIGN === 'full'

export type Lab = Awaited<ReturnType<typeof startedLab>>

/** The tests' lab. It stays while nobody asks it anything, until it is stopped. */
export async function startedLab() {
  const signal = AbortSignal.timeout(120_000)
  return await ensureLab({ dir: LAB_DIR, signal, emit: () => {}, stay: true })
}

export interface TinyProject extends AsyncDisposable {
  project: Project
  /** what its commands need */
  env: Record<string, string>
  /** `source: …` of the tiny system */
  source: string
}

/** VMIDs of a project's own, so that what is there can be told from what other tests have left. */
export interface Ranges {
  templates: string
  claims: string
}

/** An empty project whose target is the lab, at its own endpoint or at another in front of it. */
export async function tinyProject(
  lab: Lab,
  { templates, claims }: Ranges,
  at: { endpoint: string; fingerprint: string } = lab,
): Promise<TinyProject> {
  const folder = await mkdtemp(join(tmpdir(), 'imagebuild-campaign-'))
  const { network } = lab
  const { first, last } = network.pool
  const project = await makeProject({
    'imagebuild.yaml': `
namespace: campaign
targets:
  lab:
    kind: pve
    endpoint: ${at.endpoint}
    fingerprint: "${at.fingerprint}"
    username: ${lab.root.username}
    password: env:CAMPAIGN_PASSWORD
    node: ${lab.node}
    storages: { disks: local, images: local }
    bridge: ${lab.bridge}
    addresses: { range: ${first}-${last}, prefix: ${network.cidr.split('/')[1]}, gateway: ${network.gateway} }
    dns: [${[network.dns].flat().join(', ')}]
    vmids: { templates: ${templates}, claims: ${claims} }
`,
  })
  return {
    project,
    env: { CAMPAIGN_PASSWORD: lab.root.password, IMAGEBUILD_CACHE_DIR: join(folder, 'cache') },
    source: await tinySource(folder),
    async [Symbol.asyncDispose]() {
      await project[Symbol.asyncDispose]()
      await rm(folder, { recursive: true, force: true })
    },
  }
}

/** A definition without layers. Another `memory` is another image. */
export function tinyDefinition(name: string, source: string, memory: number): Record<string, string> {
  return {
    [`images/${name}/image.yaml`]: `name: ${name}
kind: lxc
${source}
hardware: { rootfs: 64M, memory: ${memory} }
hardening: none
build: { bootTimeout: 60s }
`,
  }
}
