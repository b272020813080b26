import type { Check } from '../../definition/check.ts'

/** Bytes of one answer that are read: of a file's content, or of what a command prints. */
export const ANSWER_BYTES = 2 ** 20

/** What the probe of a check has given. */
export interface Answer {
  code: number
  stdout: string
  stderr: string
}

/** Lines of what a command printed that a finding quotes. */
const QUOTED_LINES = 6

/** What timeout(1) ends with: when time was up, and when it had to kill. */
const TIMED_OUT = [124, 137]

/** @returns what was found where it is not what the check wants; undefined: passed */
export function judge(check: Check, answer: Answer, seconds: number): string | undefined {
  const wantsExit = check.kind === 'command' ? check.exit : 0
  if (TIMED_OUT.includes(answer.code) && answer.code !== wantsExit) return `no answer within ${seconds} s`
  switch (check.kind) {
    case 'command':
      return judgeCommand(check, answer)
    case 'file':
      return judgeFile(check, answer)
    case 'package': {
      const [status = '', version = ''] = answer.stdout.trim().split(' ')
      if (answer.code > 1) return withErrors('dpkg cannot be asked', answer)
      const installed = status === 'installed'
      if (installed === check.installed) return undefined
      return installed ? `${check.package} ${version} is installed` : `${check.package} is not installed`
    }
    case 'service':
      return judgeService(check, answer)
    case 'port':
      return judgePort(check, answer)
    case 'sshd':
      return judgeSshd(check, answer)
    case 'sysctl':
      return judgeSysctl(check, answer)
  }
}

type Of<K extends Check['kind']> = Extract<Check, { kind: K }>

function judgeCommand({ exit, output, lacks }: Of<'command'>, answer: Answer): string | undefined {
  if (answer.code !== exit)
    return withErrors(`exit code ${answer.code} instead of ${exit}`, answer, answer.stdout)
  const unwanted = answer.stdout
    .split('\n')
    .filter((line) => lacks !== undefined && new RegExp(lacks).test(line))
  if (unwanted.length > 0) return `it printed:\n${quoted(unwanted.join('\n'))}`
  if (output === undefined || new RegExp(output, 'm').test(answer.stdout)) return undefined
  const printed = answer.stdout.trim()
  return printed === ''
    ? `it printed nothing, instead of /${output}/`
    : `it printed, instead of /${output}/:\n${quoted(printed)}`
}

function judgeFile(check: Of<'file'>, answer: Answer): string | undefined {
  const { path, present, mode, owner, contains, lacks } = check
  const newline = answer.stdout.indexOf('\n')
  const [state, has = '', whose = '', size = '', ...type] = answer.stdout.slice(0, newline).split(' ')
  if (state === 'absent') return present === true ? `${path} is not there` : undefined
  if (present === false) return `${path} is there`
  if (state !== 'present') return withErrors(`${path} cannot be looked at`, answer)
  const wrong: string[] = []
  if (mode !== undefined) {
    const extra = Number.parseInt(has, 8) & ~Number.parseInt(mode, 8)
    if (extra !== 0) wrong.push(`its mode is ${has.padStart(4, '0')}, more than ${mode.padStart(4, '0')}`)
  }
  if (owner !== undefined && owner !== whose) wrong.push(`it belongs to ${whose}, not to ${owner}`)
  if (contains !== undefined || lacks !== undefined) {
    const content = answer.stdout.slice(newline + 1)
    if (type.join(' ').startsWith('regular') === false)
      wrong.push(`it is a ${type.join(' ')}, no file with content`)
    else if (Number(size) >= ANSWER_BYTES) wrong.push(`it has ${size} bytes, too many to look through`)
    else {
      if (contains !== undefined && !new RegExp(contains, 'm').test(content))
        wrong.push(`it does not contain /${contains}/`)
      const unwanted = lacks === undefined ? null : new RegExp(lacks, 'm').exec(content)
      if (unwanted !== null) wrong.push(`it contains ${JSON.stringify(unwanted[0].slice(0, 200))}`)
    }
  }
  return wrong.length === 0 ? undefined : `${path}: ${wrong.join('; ')}`
}

/** Words of systemctl(1) that mean what was asked for; an unknown unit is neither active nor enabled. */
const SERVICE_STATES = {
  active: ['active', 'reloading'],
  inactive: ['inactive', 'unknown', ''],
  enabled: ['enabled', 'alias', 'generated'],
  disabled: ['disabled', 'masked', 'masked-runtime', 'not-found', ''],
  masked: ['masked', 'masked-runtime'],
}

function judgeService({ unit, state }: Of<'service'>, answer: Answer): string | undefined {
  const is = answer.stdout.trim()
  // An unknown unit is told on stderr; anything else there, and systemd did not answer.
  const asked = is !== '' || /no such file|not be found|not loaded/i.test(answer.stderr)
  if (!asked) return withErrors('systemd cannot be asked', answer)
  return SERVICE_STATES[state].includes(is)
    ? undefined
    : `${unit} is ${is === '' ? 'not there' : is}, not ${state}`
}

/** State of /proc/net/tcp: TCP_LISTEN; a bound socket of UDP is in TCP_CLOSE, a connected one in TCP_ESTABLISHED. */
const LISTENING = { tcp: '0A', udp: '07' }

function judgePort({ port, protocol, listening }: Of<'port'>, answer: Answer): string | undefined {
  if (answer.code !== 0) return withErrors('its sockets cannot be read', answer)
  const open = answer.stdout.split('\n').flatMap((line) => {
    const [, local = '', , state] = line.trim().split(/\s+/)
    const [address = '', hex = ''] = local.split(':')
    return state === LISTENING[protocol] && Number.parseInt(hex, 16) === port
      ? [readableAddress(address)]
      : []
  })
  if (open.length > 0 === listening) return undefined
  return listening
    ? `nobody listens on ${protocol} port ${port}`
    : `${[...new Set(open)].join(', ')} listens on ${protocol} port ${port}`
}

/** The kernel writes addresses as words of the machine's own byte order: all that Proxmox runs on have the low byte first. */
function readableAddress(hex: string): string {
  const bytes = (word: string) => (word.match(/../g) ?? []).reverse()
  if (hex.length === 8)
    return bytes(hex)
      .map((byte) => Number.parseInt(byte, 16))
      .join('.')
  if (/^0+$/.test(hex)) return '::'
  return (hex.match(/.{8}/g) ?? [])
    .flatMap(bytes)
    .join('')
    .replace(/(.{4})(?=.)/g, '$1:')
    .toLowerCase()
}

function judgeSshd({ keyword, value }: Of<'sshd'>, answer: Answer): string | undefined {
  if (answer.code !== 0) return withErrors('sshd -T failed', answer)
  const values = answer.stdout.split('\n').flatMap((line) => {
    const [name = '', ...rest] = line.split(' ')
    return name === keyword.toLowerCase() ? [rest.join(' ')] : []
  })
  const wanted = new RegExp(`^(?:${value})$`)
  if (values.some((one) => wanted.test(one))) return undefined
  return values.length === 0 ? `sshd has no ${keyword}` : `${keyword} is ${values.join(' | ')}`
}

/** Where a name has slashes, as interfaces with dots need it, those part it: sysctl(8). */
export function sysctlPath(key: string): string {
  return key.includes('/') ? key : key.replaceAll('.', '/')
}

/** The answer is about all kernel parameters that were asked for: `<path>:<value>`, or a complaint with the path. */
function judgeSysctl({ key, value }: Of<'sysctl'>, { stdout, stderr }: Answer): string | undefined {
  const path = `/proc/sys/${sysctlPath(key)}`
  const of = (text: string, mark: string) => text.split('\n').filter((line) => line.includes(mark))
  const lines = of(stdout, `${path}:`).map((line) => line.slice(path.length + 1))
  if (lines.length === 0) {
    const [complaint = ''] = of(stderr, path)
    return withErrors(`${key} cannot be read`, { code: 1, stdout: '', stderr: complaint })
  }
  const plain = (text: string) => text.trim().split(/\s+/).join(' ')
  const is = plain(lines.join(' '))
  return is === plain(value) ? undefined : `${key} is ${is}, not ${value}`
}

function withErrors(what: string, { stderr }: Answer, stdout = ''): string {
  const said = (stderr.trim() || stdout.trim()).trim()
  return said === '' ? what : `${what}:\n${quoted(said)}`
}

function quoted(text: string): string {
  return text.split('\n').slice(-QUOTED_LINES).join('\n')
}
