import { relative } from 'node:path'
import { execa } from 'execa'
import type { AuditedClone } from './on-clone.ts'
import type { Release } from './release.ts'
import type { Tools } from './tools.ts'

/** ssh-audit looks at a server from outside, as anybody could. */

/**
 * What a template is meant to be, by name and version, among the policies that ssh-audit carries. That for Debian 13 is about
 * images with `postQuantum: true` alone.
 */
export const POLICIES: Readonly<Record<Release, string>> = {
  '12': 'Hardened Debian 12 (version 2)',
  '13': 'Hardened Debian 13 (version 1)',
}

/** The same algorithms, for versions of ssh-audit that do not have the policy: see the files. */
const OWN_FILES: Partial<Record<Release, string>> = {
  '13': new URL('policies/debian-13.txt', import.meta.url).pathname,
}

export interface SshAudit {
  /** one line each: `kex ecdh-sha2-nistp256: using elliptic curves that are suspected …` */
  failures: string[]
  warnings: string[]
}

export interface PolicyVerdict {
  policy: string
  passed: boolean
  /** one line for each field that is not as the policy has it */
  errors: string[]
  /** where its algorithms come from, if not from ssh-audit */
  note?: string
}

/** Seconds that it waits for an answer: guests whose processor is emulated need more than its own five. */
const ANSWER_SECONDS = 30

/** Exit codes of ssh-audit that mean it has looked: all well, warnings, failures. */
const LOOKED = [0, 2, 3]

/**
 * From OpenSSH 9.8 on, a server does not listen for a while to whoever connects and does not log in, which is how ssh-audit
 * looks: half of its questions would get no answer. Which algorithms there are stays the same. A restart ends when the server
 * listens again (it is a service of type `notify`), a reload before that; sessions go on either way.
 */
const TOLERATE = `if sshd -T | grep -q ^persourcepenalties; then
  echo PerSourcePenalties no > /etc/ssh/sshd_config.d/00-audit.conf
  systemctl restart ssh.service
fi`

/** Before the clone is asked from outside, for the rest of its life. */
export async function tolerateScans(clone: Pick<AuditedClone, 'run'>): Promise<void> {
  await clone.run(`sudo sh -c '${TOLERATE}'`)
}

/** @throws Error when the server could not be reached */
export async function runSshAudit(tools: Tools, address: string, signal: AbortSignal): Promise<SshAudit> {
  return parseSshAudit(await ask(tools, ['--json', address], signal))
}

export async function runPolicy(
  tools: Tools,
  { address, release }: { address: string; release: Release },
  signal: AbortSignal,
): Promise<PolicyVerdict> {
  const { policy, note } = await policyFor(tools, release, signal)
  const verdict = parsePolicy(await ask(tools, ['--json', '--policy', policy, address], signal))
  return { ...verdict, ...(note !== undefined && { note }) }
}

/**
 * @returns what `--policy` is given: its name, or a file of ours where ssh-audit does not know it, with a note that says so
 * @throws Error where it is neither known nor in a file
 */
export async function policyFor(
  tools: Tools,
  release: Release,
  signal: AbortSignal,
): Promise<{ policy: string; note?: string }> {
  const policy = POLICIES[release]
  const known = await ask(tools, ['--list-policies', '--verbose'], signal)
  if (known.includes(`"${policy}"`)) return { policy }
  const file = OWN_FILES[release]
  if (file === undefined) throw new Error(`ssh-audit ${tools.sshAudit.version} has no policy ${policy}`)
  const note = `ssh-audit ${tools.sshAudit.version} does not have it: its algorithms are in ${relative(process.cwd(), file)}`
  return { policy: file, note }
}

async function ask({ sshAudit }: Tools, args: readonly string[], signal: AbortSignal): Promise<string> {
  const [command, ...first] = sshAudit.command
  const { exitCode, stdout, stderr } = await execa(
    command,
    [...first, `--timeout=${ANSWER_SECONDS}`, ...args],
    {
      env: sshAudit.env,
      stdin: 'ignore',
      reject: false,
      cancelSignal: signal,
    },
  )
  signal.throwIfAborted()
  if (!LOOKED.includes(exitCode ?? -1)) {
    throw new Error(`ssh-audit ended with exit code ${exitCode}\n${stdout.slice(-2000)}\n${stderr}`)
  }
  return stdout
}

interface Algorithm {
  algorithm: string
  notes?: { fail?: string[]; warn?: string[] }
}

/** @param text of `ssh-audit --json` */
export function parseSshAudit(text: string): SshAudit {
  const report = JSON.parse(text) as Record<string, unknown>
  const notes = (level: 'fail' | 'warn') =>
    (['kex', 'key', 'enc', 'mac'] as const).flatMap((part) => {
      const algorithms = report[part] as Algorithm[] | undefined
      if (algorithms === undefined) throw new Error(`ssh-audit says nothing about ${part}`)
      return algorithms.flatMap(({ algorithm, notes }) =>
        (notes?.[level] ?? []).map((note) => `${part} ${algorithm}: ${note}`),
      )
    })
  return { failures: notes('fail'), warnings: notes('warn') }
}

interface PolicyError {
  mismatched_field: string
  actual: string[]
  expected_required: string[]
}

/** @param text of `ssh-audit --json --policy` */
export function parsePolicy(text: string): PolicyVerdict {
  const { policy, passed, errors } = JSON.parse(text) as {
    policy: string
    passed: boolean
    errors: PolicyError[]
  }
  return {
    policy,
    passed,
    errors: errors.map(
      ({ mismatched_field: field, actual, expected_required: expected }) =>
        `${field}: ${actual.join(', ')}; the policy has ${expected.join(', ')}`,
    ),
  }
}
