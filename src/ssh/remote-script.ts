import { quote } from '../core/shell-word.ts'

/**
 * How a command reaches the guest. Neither its text nor its environment is ever an argument of a process:
 * arguments can be read by everybody (`ps`), sudo writes them to its log, and secrets may be in both. The
 * shell that is started reads so many bytes of its standard input and evaluates them; what follows on
 * standard input belongs to the command. It costs one fork and no file.
 */

export interface RemoteScript {
  /** the command line for the server: the same for every command, but for a length and a mark */
  commandLine: string
  /** goes first on standard input */
  preamble: Buffer
}

/**
 * @param options.mark letters and digits; the shell prints `mark <session id>` on stderr before all else, so that
 *   everything that was started can be found again if it must be killed
 */
export function remoteScript(
  command: string,
  options: { env?: Readonly<Record<string, string>>; sudo?: boolean; mark: string },
): RemoteScript {
  const exports = Object.entries(options.env ?? {}).map(([name, value]) => {
    if (!/^[A-Za-z_][A-Za-z0-9_]*$/.test(name))
      throw new TypeError(`${name} cannot be the name of a variable`)
    return `export ${name}=${quote(value)}\n`
  })
  const preamble = Buffer.from(`${exports.join('')}${command}\n${options.mark}`)
  if (preamble.includes(0)) throw new TypeError('a command and its environment cannot hold NUL characters')
  // proc(5): field 6 of /proc/pid/stat is the session. head(1) reads no byte more than it is asked for.
  // The mark also ends the script: of one that was cut off by a lost connection, nothing is run.
  const shell = [
    'read -r _ _ _ _ _ s _ </proc/$$/stat',
    `echo "${options.mark} $s" >&2`,
    `s=$(head -c ${preamble.length})`,
    `case $s in *${options.mark}) eval "unset s\n\${s%${options.mark}}" ;; *) exit 255 ;; esac`,
  ].join('\n')
  // exec: the login shell between sshd and ours goes away.
  return { commandLine: `exec ${options.sudo ? 'sudo -n -- ' : ''}sh -c ${quote(shell)}`, preamble }
}

/**
 * Kills every process of a session, TERM first, KILL after a second. Walks /proc with nothing but the shell:
 * small images lack procps, and each fork costs in an emulated guest. proc(5): after the name in
 * parentheses come state, parent, group, session.
 */
export function killScript(session: number): string {
  return `each() {
  found=1
  for stat in /proc/[0-9]*/stat; do
    read -r line <"$stat" || continue
    pid=\${stat#/proc/} pid=\${pid%/stat}
    set -- \${line##*) }
    [ "$4" = ${session} ] || continue
    [ "$1" = Z ] || found=0
    [ "$signal" = 0 ] || kill -s "$signal" "$pid"
  done 2>/dev/null
  return $found
}
signal=TERM; each
signal=0; for try in 1 2 3 4 5; do each || exit 0; sleep 0.2; done
signal=KILL; each; exit 0`
}
