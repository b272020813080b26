import { execFileSync } from 'node:child_process'

/** Lines for a shell, read as a shell reads them. Nothing of them is run. */

/** @throws Error with the shell's words where it does not understand them */
export function checkShell(text: string): void {
  execFileSync('sh', ['-n'], { input: text, stdio: ['pipe', 'pipe', 'pipe'] })
}

/** The lines that call this program, with those that a backslash continues as one. */
export function callsOf(program: string, text: string): string[] {
  return text
    .replaceAll('\\\n', ' ')
    .split('\n')
    .filter((line) => new RegExp(`^(\\w+='[^']*' )?(\\./)?${program} `).test(line))
}

/**
 * The words that a shell would hand to the program in each of these lines: a function in its place tells them.
 * @param home what `~` is
 */
export function wordsOf(program: string, lines: readonly string[], home: string): string[][] {
  if (lines.length === 0) return []
  const script = [
    `${program}() { printf '%s\\0' "$@" >&3; printf '\\n\\0' >&3; }`,
    ...lines.map((line) => line.replaceAll(`./${program}`, program)),
  ].join('\n')
  const said = execFileSync('sh', ['-euc', `exec 3>&1; ${script}`], {
    cwd: home,
    env: { PATH: process.env.PATH, HOME: home },
    encoding: 'utf8',
  })
  return said
    .split('\n\0')
    .slice(0, -1)
    .map((words) => words.split('\0').slice(0, -1))
}
