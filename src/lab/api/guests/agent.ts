import type { AgentUse } from '../../release.ts'
import { failure } from '../errors.ts'
import type { Call } from '../router.ts'
import { isRunning } from './lifecycle.ts'
import { agentEnabled } from './machine-spec.ts'

/** The guest agent's commands; each answers `{ result: … }`, but for those that Proxmox translates. */

/** commands without parameters, with the method that Proxmox gives them, and what they do */
export const AGENT_COMMANDS: Record<string, ['GET' | 'POST', AgentUse]> = {
  'fsfreeze-freeze': ['POST', 'work on file systems'],
  'fsfreeze-status': ['POST', 'ask about freezing'],
  'fsfreeze-thaw': ['POST', 'work on file systems'],
  fstrim: ['POST', 'work on file systems'],
  'get-fsinfo': ['GET', 'ask'],
  'get-host-name': ['GET', 'ask'],
  'get-memory-block-info': ['GET', 'ask'],
  'get-memory-blocks': ['GET', 'ask'],
  'get-osinfo': ['GET', 'ask'],
  'get-time': ['GET', 'ask'],
  'get-timezone': ['GET', 'ask'],
  'get-users': ['GET', 'ask'],
  'get-vcpus': ['GET', 'ask'],
  info: ['GET', 'ask'],
  'network-get-interfaces': ['GET', 'ask'],
  ping: ['POST', 'ask'],
  shutdown: ['POST', 'power'],
  'suspend-disk': ['POST', 'power'],
  'suspend-hybrid': ['POST', 'power'],
  'suspend-ram': ['POST', 'power'],
}

/** the names of all calls, those with parameters too */
export const AGENT_CALLS: readonly string[] = [
  ...Object.keys(AGENT_COMMANDS),
  ...['exec', 'exec-status', 'file-read', 'file-write', 'set-user-password'],
].sort()

/** bytes of a file that one call gives back, as in Proxmox */
export const FILE_READ_LIMIT = 16 * 1024 * 1024
const FILE_READ_CHUNK = 1024 * 1024

async function ask(call: Call, command: string, args?: Record<string, unknown>): Promise<unknown> {
  const { lab, vmid } = call
  const guest = lab.guests.need(vmid)
  if (!(await isRunning(lab, vmid))) throw failure(`VM ${vmid} is not running`)
  if (!agentEnabled(guest.config)) throw failure('No QEMU guest agent configured')
  return lab.machines.agent(vmid, `guest-${command}`, args)
}

export function simple(command: string) {
  return async (call: Call): Promise<unknown> => ({ result: (await ask(call, command)) ?? {} })
}

/** POST …/agent with the command as a parameter */
export function byName(call: Call): Promise<unknown> {
  return simple(call.need('command'))(call)
}

const fromBase64 = (text: unknown) => Buffer.from(String(text), 'base64').toString('utf8')
const toBase64 = (text: string) => Buffer.from(text, 'utf8').toString('base64')

export async function exec(call: Call): Promise<unknown> {
  const [path, ...arg] = call.values.command as string[]
  const input = call.text('input-data')
  const answer = await ask(call, 'exec', {
    path,
    arg,
    'capture-output': true,
    ...(input !== undefined && { 'input-data': toBase64(input) }),
  })
  return { pid: (answer as { pid: number }).pid }
}

export async function execStatus(call: Call): Promise<unknown> {
  const answer = (await ask(call, 'exec-status', { pid: call.number('pid') })) as Record<string, unknown>
  const status: Record<string, unknown> = { exited: answer.exited ? 1 : 0 }
  for (const name of ['exitcode', 'signal']) if (answer[name] !== undefined) status[name] = answer[name]
  for (const name of ['out-data', 'err-data']) {
    if (answer[name] !== undefined) status[name] = fromBase64(answer[name])
  }
  for (const name of ['out-truncated', 'err-truncated']) {
    if (answer[name] !== undefined) status[name] = answer[name] ? 1 : 0
  }
  return status
}

export async function fileRead(call: Call): Promise<unknown> {
  const [offset, count] = [call.number('offset') ?? 0, call.number('count') ?? FILE_READ_LIMIT]
  const handle = await ask(call, 'file-open', { path: call.need('file'), mode: 'rb' })
  const chunks: Buffer[] = []
  let size = 0
  let eof = false
  try {
    if (offset > 0) await ask(call, 'file-seek', { handle, offset, whence: 'set' })
    while (!eof && size < count) {
      const wanted = Math.min(count - size, FILE_READ_CHUNK)
      const answer = (await ask(call, 'file-read', { handle, count: wanted })) as Record<string, unknown>
      const chunk = Buffer.from(String(answer['buf-b64'] ?? ''), 'base64')
      chunks.push(chunk)
      size += chunk.length
      eof = answer.eof === true
    }
  } finally {
    await ask(call, 'file-close', { handle })
  }
  // Decoded, Proxmox gives the bytes as characters, one each; else as the agent has encoded each piece.
  const encoding = call.flag('decode', true) ? 'latin1' : 'base64'
  return {
    content: chunks.map((chunk) => chunk.toString(encoding)).join(''),
    'bytes-read': size,
    ...(!eof && { truncated: 1 }),
  }
}

export async function fileWrite(call: Call): Promise<null> {
  const content = call.need('content')
  const handle = await ask(call, 'file-open', { path: call.need('file'), mode: 'wb' })
  try {
    await ask(call, 'file-write', {
      handle,
      'buf-b64': call.flag('encode', true) ? toBase64(content) : content,
    })
  } finally {
    await ask(call, 'file-close', { handle })
  }
  return null
}

export async function setUserPassword(call: Call): Promise<unknown> {
  const result = await ask(call, 'set-user-password', {
    username: call.need('username'),
    password: toBase64(call.need('password')),
    crypted: call.flag('crypted'),
  })
  return { result: result ?? {} }
}
