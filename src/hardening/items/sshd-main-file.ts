import type { HardeningItem, ItemCheck, MachineTraits } from '../item.ts'
import { NEWEST_KEX_PREFIX, newestKexFirst } from './sshd-algorithms.ts'

/** Keywords of sshd_config, as people write them. */
export type Settings = Readonly<Record<string, string | number>>

const MAIN_FILE = '/etc/ssh/sshd_config'
const BEGIN = '# As in sshd_config.d, which counts; here for programs that read only this file.'
const END = '# End of what is as in sshd_config.d.'

/** Up to the end of the file, what follows this line is for some connections only. */
const MATCH = '/^[[:space:]]*Match[[:space:]]/I'
const INCLUDE = '/^[[:space:]]*Include[[:space:]]/I'

/** Regular expression of sed and grep for lines of these keywords. */
const linesOf = (keywords: readonly string[]) => `^[[:space:]]*(${keywords.join('|')})[[:space:]=]`

/**
 * A block behind the line that includes the drop-ins, or at the top; what stood there of the same keywords goes. What
 * begins with Match is left alone, and nothing is written behind it.
 */
export function intoMainFile(settings: Settings, file = MAIN_FILE): string {
  const keywords = Object.keys(settings)
  const clean = [`'${MATCH},$b'`, `'/^${BEGIN}$/,/^${END}$/d'`]
  if (keywords.length === 0) return `sed -i -E ${clean.map((one) => `-e ${one}`).join(' ')} ${file}`
  clean.push(`'/${linesOf(keywords)}/Id'`)
  const lines = Object.entries(settings).map(([keyword, value]) => `${keyword} ${value}`)
  return `block=$(mktemp)
trap 'rm -f "$block"' EXIT
cat > "$block" <<'LINES'
${[BEGIN, ...lines, END].join('\n')}
LINES
sed -i -E ${clean.map((one) => `-e ${one}`).join(' ')} ${file}
include=$(sed -n -e '${MATCH}q' -e '${INCLUDE}{=;q}' ${file})
if [ -n "$include" ]; then
  sed -i "\${include}r $block" ${file}
else
  cat ${file} >> "$block"
  cat "$block" > ${file}
fi`
}

/** @param byItem the settings of each item that has some; those of items that are not applied are left out */
export function sshdMainFile(
  byItem: (machine: MachineTraits) => Readonly<Record<string, Settings>>,
): HardeningItem {
  const settingsOf = (machine: MachineTraits, applied: ReadonlySet<string>): Settings =>
    Object.assign({}, ...Object.entries(byItem(machine)).map(([id, one]) => (applied.has(id) ? one : {})))
  return {
    id: 'sshd-main-file',
    title: 'The main file says the same as those that it includes, since scanners read only that',
    area: 'sshd',
    sources: ['CIS Debian 12 5.1.5 to 5.1.21'],
    profile: 'cis-l1',
    measures: (machine, applied) => {
      const settings = settingsOf(machine, applied)
      const parts = [intoMainFile(settings)]
      if ('KexAlgorithms' in settings) parts.push(newestKexFirst(MAIN_FILE))
      return { script: parts.join('\n') }
    },
    checks: (machine, applied) => {
      const settings = Object.entries(settingsOf(machine, applied))
      if (settings.length === 0) return [noBlock]
      return settings.map(
        ([keyword, value]): ItemCheck => ({
          title: `${keyword} stands there`,
          kind: 'command',
          command: `sed '${MATCH},$d' ${MAIN_FILE} | grep -iE '${linesOf([keyword])}'`,
          exit: 0,
          // Once: whoever adds another line finds out.
          output: `(?<![\\s\\S])${keyword} ${keyword === 'KexAlgorithms' ? NEWEST_KEX_PREFIX : ''}${String(value).replaceAll('.', '\\.')}\\n?(?![\\s\\S])`,
        }),
      )
    },
  }
}

const noBlock: ItemCheck = {
  title: 'No item sets anything that could stand there',
  kind: 'command',
  command: `grep -Fx '${BEGIN}' ${MAIN_FILE}`,
  exit: 1,
}
