import { quote } from '../../core/shell-word.ts'
import type { Check } from '../../definition/check.ts'
import type { Examiner } from './examiner.ts'
import { ANSWER_BYTES, type Answer, judge, sysctlPath } from './judge.ts'
import type { Result } from './report.ts'

/** All checks of a machine by one script, which runs as root and prints an answer a line. */

/** Seconds for one check that does not say how many it needs. */
export const CHECK_SECONDS = 60

/**
 * In an emulated machine a process takes longer than most of what is asked, so there are as few as can be: what each probe
 * says goes into files, which are read at the end, all at once. (Files also because a pipe would stay open for whatever a
 * command leaves running, and since the end of one would end a command that prints much.)
 *
 * `ask` is for commands, which may not end: timeout(1) ends with 124, or 137 where it had to kill. `look` is for the rest,
 * which one more timeout watches, all together: what is asked after one that hangs has no answer.
 */
const PRELUDE = `set -u
LC_ALL=C; export LC_ALL
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
cd /
ask() {
  timeout -k 2 "$2" /bin/sh -c "$3" >"$dir/$1.out" 2>"$dir/$1.err" </dev/null; echo "code $1 $?"
}
`

/** How much longer than one command all of them may take. */
const LOOKS = 5

const LOOK = `look() {
  (eval "$2") >"$dir/$1.out" 2>"$dir/$1.err" </dev/null; echo "code $1 $?"
}
`

/** Bytes of a probe's stderr that are read: its end. */
const ERROR_BYTES = 16 * 1024

/**
 * Copies first, since what a command has left running may still write; then their sizes, and what is in them, in the same
 * order.
 */
const ANSWERS = `mkdir "$dir/answers"
cd "$dir"
for file in *.out *.err; do [ ! -s "$file" ] || echo "$file"; done >list
while read -r file; do
  case $file in
    *.out) head -c ${ANSWER_BYTES} "$file" ;;
    *) tail -c ${ERROR_BYTES} "$file" ;;
  esac >"answers/$file"
done <list
cd answers
set -- *
[ -e "$1" ] || set --
[ $# -eq 0 ] || stat -c 'size %n %s' -- "$@"
printf 'data '
[ $# -eq 0 ] || cat -- "$@" | base64 -w0
echo
exit 0
`

/** Checks of one kind may have the same probe, and then one answer. */
export function compileChecks(checks: readonly Check[], seconds = CHECK_SECONDS): string {
  const asked = [...probes(checks, seconds)].map(([probe, limits], n) => ({ probe, n, ...limits }))
  const commands = asked.filter(({ isCommand }) => isCommand)
  const looks = asked.filter(({ isCommand }) => !isCommand)
  const watched = `${LOOK}${looks.map(({ probe, n }) => `look ${n} ${quote(probe)}\n`).join('')}`
  return [
    PRELUDE,
    ...commands.map(({ probe, n, most }) => `ask ${n} ${most} ${quote(probe)}\n`),
    looks.length === 0
      ? ''
      : `dir=$dir timeout -k 2 ${LOOKS * seconds} /bin/sh -c ${quote(watched)} </dev/null\n`,
    ANSWERS,
  ].join('')
}

interface Limits {
  /** seconds that it may take: those of the most patient check that has it */
  most: number
  /** of a `command` check */
  isCommand: boolean
}

/** Each probe once. */
function probes(checks: readonly Check[], seconds: number): Map<string, Limits> {
  const limits = new Map<string, Limits>()
  for (const check of checks) {
    const probe = probeOf(check, checks)
    const most = Math.max(limits.get(probe)?.most ?? 0, secondsFor(check, seconds))
    limits.set(probe, { most, isCommand: check.kind === 'command' })
  }
  return limits
}

function secondsFor(check: Check, seconds: number): number {
  return check.kind === 'command' ? (check.seconds ?? seconds) : seconds
}

/** @param all checks of the same script: of some kinds one probe asks for all */
function probeOf(check: Check, all: readonly Check[]): string {
  switch (check.kind) {
    case 'command':
      return check.command
    case 'file': {
      const path = quote(check.path)
      const content = check.contains !== undefined || check.lacks !== undefined
      return [
        `[ -e ${path} ] || [ -L ${path} ] || { echo absent; exit 0; }`,
        `stat -L -c 'present %a %U:%G %s %F' -- ${path} || exit 1`,
        ...(content ? [`[ ! -f ${path} ] || head -c ${ANSWER_BYTES} -- ${path}`] : []),
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
    case 'sysctl': {
      const paths = all.flatMap((one) => (one.kind === 'sysctl' ? [`/proc/sys/${sysctlPath(one.key)}`] : []))
      return `grep -H '' -- ${[...new Set(paths)].map(quote).join(' ')}`
    }
  }
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
  const total = [...limits.values()].reduce((sum, { most }) => sum + most + 3, LOOKS * seconds)
  const { stdout, stderr } = await examiner.run(script, {
    asRoot: true,
    seconds: total + 60,
    ...(signal && { signal }),
  })
  const answers = readAnswers(stdout)
  const numbers = new Map([...limits.keys()].map((probe, n) => [probe, n]))
  return checks.map((check) => {
    const probe = probeOf(check, checks)
    const answer = answers.get(numbers.get(probe) ?? -1)
    const { id, title, sources, where } = check
    const found =
      answer === undefined
        ? `no answer${stderr === '' ? '' : `: ${stderr.trim()}`}`
        : judge(check, answer, limits.get(probe)?.most ?? seconds)
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

/** What the script has printed: exit codes by number, sizes by name of the file, and the files' bytes. */
function readAnswers(printed: string): Map<number, Answer> {
  const codes = new Map<number, number>()
  const sizes: { name: string; size: number }[] = []
  let data: Buffer | undefined
  for (const line of printed.split('\n')) {
    const [word, name = '', value = ''] = line.split(' ')
    if (word === 'code') codes.set(Number(name), Number(value))
    else if (word === 'size') sizes.push({ name, size: Number(value) })
    else if (word === 'data') data = Buffer.from(name, 'base64')
  }
  // Of a script that was cut off nothing is known.
  if (data === undefined) return new Map()
  const texts = new Map<string, string>()
  let offset = 0
  for (const { name, size } of sizes) {
    texts.set(name, data.subarray(offset, offset + size).toString('utf8'))
    offset += size
  }
  const text = (name: string) => texts.get(name) ?? ''
  return new Map(
    [...codes].map(([n, code]) => [n, { code, stdout: text(`${n}.out`), stderr: text(`${n}.err`) }]),
  )
}
