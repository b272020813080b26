import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { hasEnded, thisOwner } from '../../pve/owner.ts'

/** Where keys and certificates of a verification lie. Its name says whose it is, so that nothing outlives a killed run. */

const PREFIX = 'imagebuild-verify-'

/** Process, its namespace, and when it began. */
const NAMED = /^imagebuild-verify-(\d+)-(\d*)-(\d+)-/

/** @returns the path of a new folder, for this user alone */
export async function privateFolder(): Promise<string> {
  const { pid, pids, started } = await thisOwner()
  return await mkdtemp(join(tmpdir(), `${PREFIX}${pid}-${digits(pids)}-${started}-`))
}

/** Removes folders of processes that are gone. Those of other containers, whose processes nobody sees here, stay. */
export async function removeAbandoned(): Promise<void> {
  const here = await thisOwner()
  for (const name of await readdir(tmpdir())) {
    const [, pid, pids, started = ''] = NAMED.exec(name) ?? []
    if (pid === undefined || pids !== digits(here.pids)) continue
    if ((await hasEnded({ ...here, pid: Number(pid), started })) !== true) continue
    // Another user's cannot be removed, and need not be.
    await rm(join(tmpdir(), name), { recursive: true, force: true }).catch(() => undefined)
  }
}

/** Of `pid:[4026531836]`. */
function digits(namespace: string | undefined): string {
  return (namespace ?? '').replace(/\D/g, '')
}
