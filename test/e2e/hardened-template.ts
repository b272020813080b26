import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Profile } from '../../audit/definition.ts'
import { buildTemplate } from '../../audit/workspace.ts'
import { destroyGuest } from '../../src/pve/destroy.ts'
import { CACHE_DIR, LAB_DIR, labClient } from './harness.ts'

/** The shipped image with a hardening profile, as a template on the tests' lab. It goes with its scope. */
export interface HardenedTemplate extends AsyncDisposable {
  vmid: number
}

export async function hardenedTemplate(profile: Profile): Promise<HardenedTemplate> {
  const folder = await mkdtemp(join(tmpdir(), 'imagebuild-e2e-hardened-'))
  const lines: string[] = []
  try {
    process.env.IMAGEBUILD_CACHE_DIR = CACHE_DIR
    const signal = AbortSignal.timeout(1_000_000)
    const vmid = await buildTemplate(
      { folder, lab: LAB_DIR, say: (line) => lines.push(line), signal },
      profile,
    )
    return {
      vmid,
      [Symbol.asyncDispose]: async () => {
        await using pve = await labClient()
        await destroyGuest(pve, { kind: 'vm', node: 'lab', vmid, signal: AbortSignal.timeout(120_000) })
      },
    }
  } catch (error) {
    throw new Error(`${(error as Error).message}\n${lines.slice(-30).join('\n')}`, { cause: error })
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}
