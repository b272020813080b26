/**
 * `pveum`, as far as README.md needs it: which call of the API a line is (PVE::CLI::pveum has the same in Perl). Proxmox alone
 * has the program; the lab has the API.
 */

/** A state-changing call, below /api2/json. */
export interface Call {
  method: 'POST' | 'PUT'
  path: string
  params: Record<string, string>
}

interface Known {
  method: Call['method']
  path: string
  /** in the order in which they stand on the command line; `{name}` in the path, or a parameter */
  args: readonly string[]
  options: readonly string[]
}

const USER = ['comment', 'email', 'enable', 'expire', 'firstname', 'groups', 'keys', 'lastname', 'password']

const COMMANDS: Readonly<Record<string, Known>> = {
  'user add': { method: 'POST', path: '/access/users', args: ['userid'], options: USER },
  'user token add': {
    method: 'POST',
    path: '/access/users/{userid}/token/{tokenid}',
    args: ['userid', 'tokenid'],
    options: ['comment', 'expire', 'privsep'],
  },
  'role add': { method: 'POST', path: '/access/roles', args: ['roleid'], options: ['privs'] },
  'role modify': {
    method: 'PUT',
    path: '/access/roles/{roleid}',
    args: ['roleid'],
    options: ['privs', 'append'],
  },
  'acl modify': {
    method: 'PUT',
    path: '/access/acl',
    args: ['path'],
    options: ['roles', 'users', 'groups', 'tokens', 'propagate'],
  },
}

/**
 * @param words as a shell hands them over, without the program's name
 * @throws Error that says what is not understood
 */
export function pveumCall(words: readonly string[]): Call {
  const line = words.join(' ')
  const name = Object.keys(COMMANDS).find((known) => line.startsWith(`${known} `))
  const known = name === undefined ? undefined : COMMANDS[name]
  if (name === undefined || known === undefined) throw new Error(`pveum has no command: ${line}`)
  const rest = words.slice(name.split(' ').length)
  const given = known.args.map((arg, index) => {
    const word = rest[index]
    if (word === undefined || word.startsWith('-')) throw new Error(`pveum ${name} wants ${arg}: ${line}`)
    return [arg, word] as const
  })
  const options = pairs(rest.slice(known.args.length)).map(([option, value]) => {
    if (!known.options.includes(option)) throw new Error(`pveum ${name} has no option --${option}`)
    return [option, value] as const
  })
  const inPath = (arg: string) => known.path.includes(`{${arg}}`)
  return {
    method: known.method,
    path: known.path.replaceAll(/\{(\w+)\}/g, (_, arg: string) => new Map(given).get(arg) ?? ''),
    params: Object.fromEntries([...given.filter(([arg]) => !inPath(arg)), ...options]),
  }
}

/** `--name value`, again and again. */
function pairs(words: readonly string[]): (readonly [string, string])[] {
  if (words.length === 0) return []
  const [name = '', value, ...rest] = words
  if (!name.startsWith('--') || value === undefined)
    throw new Error(`no option with a value: ${words.join(' ')}`)
  return [[name.slice(2), value], ...pairs(rest)]
}
