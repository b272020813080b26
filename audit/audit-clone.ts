import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Lynis, runLynis } from './lynis.ts'
import type { AuditedClone } from './on-clone.ts'
import { type Rule, runOpenScap } from './openscap.ts'
import { settle } from './settle.ts'
import { type PolicyVerdict, runPolicy, runSshAudit, type SshAudit, tolerateScans } from './ssh-audit.ts'
import type { Tools } from './tools.ts'

/** What the scanners say about one clone. */
export interface Findings {
  openscap: Rule[]
  lynis: Lynis
  sshAudit: SshAudit
  policy: PolicyVerdict
}

/**
 * All scanners on a clone that is up, one after the other: ten minutes and more under software emulation. Afterwards
 * the clone has none of them any more. Those within come first, each without the others' packages; ssh-audit comes
 * last, since what it does looks like an attack, and a clone may lock this machine's address out.
 */
export async function auditClone(
  clone: AuditedClone,
  tools: Tools,
  { signal, say = () => {} }: { signal: AbortSignal; say?: (line: string) => void },
): Promise<Findings> {
  const work = await mkdtemp(join(tmpdir(), 'imagebuild-audit-clone-'))
  try {
    await settle(clone)
    say('OpenSCAP')
    const openscap = await runOpenScap(clone, tools, work, signal)
    say('lynis')
    const lynis = await runLynis(clone, work, signal)
    say('ssh-audit')
    await tolerateScans(clone)
    const sshAudit = await runSshAudit(tools, clone.address, signal)
    const policy = await runPolicy(tools, clone, signal)
    return { openscap, lynis, sshAudit, policy }
  } finally {
    await rm(work, { recursive: true, force: true })
  }
}
