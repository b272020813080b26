import type { AgentUse, Release } from '../../release.ts'
import { failure, messageOf } from '../errors.ts'
import { boolean, integer, list, oneOf, optional, string } from '../parameters.ts'
import { type Call, type Check, get, onAny, post, type Route } from '../router.ts'
import * as agent from './agent.ts'

/** /nodes/{node}/qemu/{vmid}/agent … and monitor: what takes other privileges in each release. */

const GUEST = '/nodes/{node}/qemu/{vmid}'
const FILE = { file: string() }

/** POST …/monitor */
function monitor(call: Call): Promise<string> {
  const { lab, vmid } = call
  const command = call.need('command')
  const need = lab.pve.monitor.need(command)
  if (need === 'Sys.Modify') call.require('/', ['Sys.Modify'])
  if (call.caller.authid !== 'root@pam') {
    const name = command.trim().split(/\s/, 1)[0]
    if (need === 'root@pam') throw failure(`root-only command '${name}'`)
    if (need === 'unlisted') {
      throw failure(
        `command '${name}' non-existent or not assigned a required permission yet, limiting to root user`,
      )
    }
  }
  lab.guests.need(vmid)
  return lab.machines.monitor(vmid, command).catch((error) => `ERROR: ${messageOf(error)}\n`)
}

export function agentRoutes(pve: Release): readonly Route[] {
  const may = (use: AgentUse): Check => onAny('/vms/{vmid}', ...pve.agent[use])
  return [
    post(`${GUEST}/monitor`, onAny('/vms/{vmid}', ...pve.monitor.guest), { command: string() }, monitor),
    get(`${GUEST}/agent`, 'all', {}, () => agent.AGENT_CALLS.map((name) => ({ name }))),
    post(
      `${GUEST}/agent`,
      may('anything by name'),
      { command: oneOf(...Object.keys(agent.AGENT_COMMANDS)) },
      agent.byName,
    ),
    ...Object.entries(agent.AGENT_COMMANDS).map(([command, [method, use]]) =>
      (method === 'GET' ? get : post)(`${GUEST}/agent/${command}`, may(use), {}, agent.simple(command)),
    ),
    post(
      `${GUEST}/agent/exec`,
      may('anything'),
      { command: list(), 'input-data': optional(string({ maxLength: 65536 })) },
      agent.exec,
    ),
    get(`${GUEST}/agent/exec-status`, may('anything'), { pid: integer() }, agent.execStatus),
    get(
      `${GUEST}/agent/file-read`,
      may('read files'),
      {
        ...FILE,
        count: optional(integer({ minimum: 1, maximum: agent.FILE_READ_LIMIT })),
        decode: optional(boolean()),
        offset: optional(integer({ minimum: 0 })),
      },
      agent.fileRead,
    ),
    post(
      `${GUEST}/agent/file-write`,
      may('write files'),
      { ...FILE, content: string({ maxLength: 61440 }), encode: optional(boolean()) },
      agent.fileWrite,
    ),
    post(
      `${GUEST}/agent/set-user-password`,
      may('anything'),
      {
        crypted: optional(boolean()),
        password: string({ minLength: 5, maxLength: 1024 }),
        username: string(),
      },
      agent.setUserPassword,
    ),
  ]
}
