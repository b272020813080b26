import type { Check } from '../../definition/check.ts'
import { quote } from '../../ssh/remote-script.ts'
import { decode, type Examiner, readLines } from './examiner.ts'
import { ANSWER_BYTES, judge } from './judge.ts'
import type { Result } from './report.ts'

/** All checks of a machine by one script, which runs as root and prints an answer a line. */

/** Seconds for one check that does not say how many it needs. */
export const CHECK_SECONDS = 60

/**
 * `timeout` ends with 124, or 137 where it had to kill. Files, since a pipe would stay open for whatever a command
 * leaves running, and since the end of one would end a command that prints much.
 */
const PRELUDE = `set -u
LC_ALL=C; export LC_ALL
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
cd /
ask() {
  timeout -k 2 "$2" /bin/sh -c "$3" >"$dir/out" 2>"$dir/err" </dev/null; code=$?
  out= err=
  [ ! -s "$dir/out" ] || out=$(head -c ${ANSWER_BYTES} "$dir/out" | base64 -w0)
  [ ! -s "$dir/err" ] || err=$(tail -c 2048 "$dir/err" | base64 -w0)
  echo "{\\"n\\":$1,\\"code\\":$code,\\"out\\":\\"$out\\",\\"err\\":\\"$err\\"}"
}
`

/** Checks of one kind may have the same probe, and then one answer. */
export function compileChecks(checks: readonly Check[], seconds = CHECK_SECONDS): string {
  const asked = [...probes(checks, seconds)].map(([probe, most], n) => `ask ${n} ${most} ${quote(probe)}\n`)
  return `${PRELUDE}${asked.join('')}exit 0\n`
}

/** Each probe once, with the seconds that it may take: those of the most patient check that has it. */
function probes(checks: readonly Check[], seconds: number): Map<string, number> {
  const found = new Map<string, number>()
  for (const check of checks) {
    const probe = probeOf(check)
    found.set(probe, Math.max(found.get(probe) ?? 0, secondsFor(check, seconds)))
  }
  return found
}

function secondsFor(check: Check, seconds: number): number {
  return check.kind === 'command' ? (check.seconds ?? seconds) : seconds
}

function probeOf(check: Check): string {
  switch (check.kind) {
    case 'command':
      return check.command
    case 'file': {
      const path = quote(check.path)
      const content = check.contains !== undefined || check.lacks !== undefined
      return [
        `[ -e ${path} ] || [ -L ${path} ] || { echo absent; exit 0; }`,
        `stat -L -c 'present %a %U:%G %s %F' -- ${path} || exit 1`,
        ...(content ? [`head -c ${ANSWER_BYTES} -- ${path}`] : []),
      ].join('\n')
    }
    case 'package':
      return `dpkg-query -W -f '\${db:Status-Status} \${Version}\\n' -- ${quote(check.package)}`
    case 'service':
      return `systemctl ${check.state === 'active' || check.state === 'inactive' ? 'is-active' : 'is-enabled'} -- ${quote(check.unit)}`
    case 'port':
      return `cat /proc/net/${check.protocol} /proc/net/${check.protocol}6 2>/dev/null; [ -r /proc/net/${check.protocol} ]`
    case 'sshd':
      return 'PATH=$PATH:/usr/sbin:/sbin; sshd -T'
    case 'sysctl':
      return `cat /proc/sys/${quote(sysctlPath(check.key))}`
  }
}

/** Where a name has slashes, as interfaces with dots need it, those part it: sysctl(8). */
function sysctlPath(key: string): string {
  return key.includes('/') ? key : key.replaceAll('.', '/')
}

/**
 * Asks all of them.
 * @returns one result for each, in their order
 * @throws as `Examiner.run`
 */
export async function runChecks(
  examiner: Examiner,
  checks: readonly Check[],
  { signal, seconds = CHECK_SECONDS }: { signal?: AbortSignal; seconds?: number } = {},
): Promise<Result[]> {
  if (checks.length === 0) return []
  const script = compileChecks(checks, seconds)
  const limits = probes(checks, seconds)
  const total = [...limits.values()].reduce((sum, most) => sum + most + 3, 0)
  const { stdout, stderr } = await examiner.run(script, {
    asRoot: true,
    seconds: total + 60,
    ...(signal && { signal }),
  })
  const lines = readLines<{ n: number; code: number; out: string; err: string }>(stdout)
  const answers = new Map(
    lines.map(({ n, code, out, err }) => [n, { code, stdout: decode(out), stderr: decode(err) }]),
  )
  const numbers = new Map([...limits.keys()].map((probe, n) => [probe, n]))
  return checks.map((check) => {
    const probe = probeOf(check)
    const answer = answers.get(numbers.get(probe) ?? -1)
    const { id, title, sources, where } = check
    const found =
      answer === undefined
        ? `no answer${stderr === '' ? '' : `: ${stderr.trim()}`}`
        : judge(check, answer, limits.get(probe) ?? seconds)
    return {
      group: 'checks',
      id,
      title,
      sources,
      ...(where && { where }),
      ...(found === undefined ? { outcome: 'passed' } : { outcome: 'failed', found }),
    }
  })
}
