import { execa } from 'execa'
import type { Tools } from './tools.ts'

/** ssh-audit looks at a server from outside, as anybody could. */

/** What the template is meant to be, by name and version, among the policies that ssh-audit carries. */
export const POLICY = 'Hardened Debian 12 (version 2)'

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
}

/** Seconds that it waits for an answer: guests whose processor is emulated need more than its own five. */
const ANSWER_SECONDS = 30

/** Exit codes of ssh-audit that mean it has looked: all well, warnings, failures. */
const LOOKED = [0, 2, 3]

/** @throws Error when the server could not be reached */
export async function runSshAudit(tools: Tools, address: string, signal: AbortSignal): Promise<SshAudit> {
  return parseSshAudit(await ask(tools, ['--json', address], signal))
}

export async function runPolicy(tools: Tools, address: string, signal: AbortSignal): Promise<PolicyVerdict> {
  return parsePolicy(await ask(tools, ['--json', '--policy', POLICY, address], signal))
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
