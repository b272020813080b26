import { randomBytes } from 'node:crypto'
import { stat } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { lock } from '../core/lock.ts'
import { makeFolder } from '../core/make-folder.ts'
import { printable } from '../core/printable.ts'
import { useUsualModes } from '../core/umask.ts'
import { type ApiServer, startApi } from './api/server.ts'
import { certificate } from './certificate.ts'
import { readConfig } from './config.ts'
import { type LabConnection, readConnection, writeConnection } from './connection.ts'
import { BRIDGE, closeHost, openHost } from './host.ts'
import { beginNeeds, latestNeed } from './needed.ts'
import { FIRST_NODE, readNodes, writeNodes } from './nodes.ts'
import { ROLE, rolePrivileges } from './privileges.ts'
import { listenRefused } from './refused.ts'
import { DEFAULT_MAJOR, MAJORS, type Major, RELEASES } from './release.ts'
import { forgetStopped, readStopped, writeRefused, writeStopped } from './stopped.ts'

/**
 * The lab's process: `node daemon.ts [--port=<n>] [--pve=<major>] <folder>`. One per folder; it ends when nobody has
 * needed it for a while, on SIGTERM and on SIGINT, and takes everything with it but the folder. On SIGHUP it plays the
 * nodes too that nodes.json names by then.
 */
const VERSION = '1'
const USER = 'imagebuild@pve'
const TOKEN = 'lab'

useUsualModes()

const dir = resolve(process.argv.at(-1) ?? '')
const option = (name: string) =>
  process.argv.find((argument) => argument.startsWith(`--${name}=`))?.slice(`--${name}=`.length)
const port = option('port')

function say(message: string): void {
  process.stderr.write(`${new Date().toISOString()} ${printable(message)}\n`)
}

// A defect in one request must not take the guests of the others with it.
process.on('unhandledRejection', (reason) =>
  say(`unhandled: ${reason instanceof Error ? reason.stack : reason}`),
)

const ending = Promise.withResolvers<string>()
for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => ending.resolve(signal))
// Somebody may ask before there is an API to add them to: it begins with all that are named then.
let addNodes: () => Promise<void> = async () => {}
process.on('SIGHUP', () => void addNodes())

await makeFolder(dir, 0o700)
// Held to the end: a predecessor that is still taking its things away is waited for.
await using _ = await lock(join(dir, 'daemon.lock'))
await forgetStopped(dir)
const refuse = async (thrown: unknown) => {
  throw await writeRefused(dir, thrown)
}
const config = await readConfig(dir).catch(refuse)
let last = performance.now()
const touch = () => {
  last = performance.now()
}
await beginNeeds(dir)
let need = await latestNeed(dir)
const host = await openHost(dir, config, touch)
try {
  const tls = await certificate(dir, config.host)
  const playing = await readNodes(dir, config.nodes)
  // From now on they stay, also when config.json names them no more: they have guests.
  await writeNodes(dir, playing)
  const nodeOf = async (name: string) => ({
    name,
    storages: name === FIRST_NODE ? host.storages : await host.storagesOf(name),
  })
  const nodes = await Promise.all(playing.map(nodeOf))
  const pve = await playedMajor()
  const serve = (at: number) =>
    startApi({
      host: config.host,
      port: at,
      pve,
      tls,
      stateDir: join(dir, 'state'),
      appliances: join(dir, 'appliances.dat'),
      datacenter: join(dir, 'datacenter.cfg'),
      nodes,
      machines: host.machines,
      containers: host.containers,
      bridges: [{ name: BRIDGE, address: host.subnet.gateway, cidr: host.subnet.cidr }],
      onActivity: touch,
      faults: config.faults,
    })
  const asked = port === undefined ? config.port : Number(port)
  // Where nobody asks for a port, clients that were configured once shall find it where it was.
  const api = await serve(asked || (await previousPort())).catch((error: NodeJS.ErrnoException) => {
    if (asked !== 0 || error.code !== 'EADDRINUSE') return refuse(listenRefused(error, config.host, asked))
    return serve(0)
  })
  const { cidr, gateway, pool } = host.subnet
  const connection = {
    endpoint: `https://${config.host === '0.0.0.0' ? '127.0.0.1' : config.host}:${api.port}`,
    fingerprint: tls.fingerprint,
    node: FIRST_NODE,
    pve: RELEASES[pve].version.version,
    ...(await credentials(api, pve)),
    bridge: BRIDGE,
    network: { cidr, gateway, dns: gateway, pool },
    storages: host.storages.map(({ id, type, content }) => ({ id, type, content: [...content] })),
    pid: process.pid,
    version: VERSION,
  }
  let turn: Promise<unknown> = Promise.resolve()
  addNodes = () => {
    const change = turn.then(async () => {
      const names = await readNodes(dir, config.nodes)
      const joining = await Promise.all(names.filter((name) => !playing.includes(name)).map(nodeOf))
      for (const node of joining) {
        api.addNode(node)
        playing.push(node.name)
        say(`node ${node.name} has joined`)
      }
      await writeConnection(dir, { ...connection, nodes: playing })
    })
    turn = change.catch(() => undefined)
    return change
  }
  await addNodes()
  say(`serving ${dir} on port ${api.port} as Proxmox VE ${connection.pve}, guests on ${cidr}`)
  const watch = setInterval(() => void endWhenIdle(api), Math.min(1000, config.idleSeconds * 100))
  touch()
  const how = await ending.promise
  say(`ending: ${how}`)
  const { pid } = process
  // Where somebody has stopped it, it says there who did.
  if ((await readStopped(dir, pid)) === undefined) await writeStopped(dir, { pid, how })
  clearInterval(watch)
  await api.close()
} finally {
  await closeHost(dir, host)
  say('ended')
}
// Keep-alive connections and timers of others are no reason to stay.
setImmediate(() => process.exit())

async function endWhenIdle(api: ApiServer): Promise<void> {
  const kept = await stat(join(dir, 'stay')).catch(() => undefined)
  const guests = (await host.machines.running()).length + (await host.containers.running()).length
  const busy = api.activeTasks() + api.openRequests() + guests
  const before = need
  need = await latestNeed(dir)
  if (kept !== undefined || busy > 0 || need !== before) return touch()
  if (performance.now() - last > config.idleSeconds * 1000) ending.resolve('nobody has needed it for a while')
}

/**
 * Who has asked for none gets what this lab played last: templates and clients are used to it. Where its lab.json does not
 * say, an imagebuild that knew one release alone has made it: it becomes the default.
 */
async function playedMajor(): Promise<Major> {
  const asked = option('pve') ?? config.pve ?? (await readConnection(dir))?.pve?.split('.', 1)[0]
  return MAJORS.find((major) => String(major) === String(asked)) ?? DEFAULT_MAJOR
}

async function previousPort(): Promise<number> {
  const before = await readConnection(dir)
  return before === undefined ? 0 : Number(new URL(before.endpoint).port)
}

/** The same token and password as before, as long as the API knows the token. */
async function credentials(api: ApiServer, pve: Major): Promise<Pick<LabConnection, 'token' | 'root'>> {
  const before = await readConnection(dir)
  const password = before?.root.password ?? randomBytes(16).toString('base64url')
  const common = { rootPassword: password, roles: { [ROLE]: rolePrivileges(RELEASES[pve]) } }
  const root = { username: 'root@pam', password } as const
  if (before !== undefined) {
    await api.provisionAccess(common)
    return { token: before.token, root }
  }
  const { tokens } = await api.provisionAccess({
    ...common,
    users: [
      {
        userid: USER,
        comment: 'builds and keeps templates',
        acl: [{ path: '/', role: ROLE }],
        token: { id: TOKEN, privsep: false, comment: 'written to lab.json' },
      },
    ],
  })
  const id = `${USER}!${TOKEN}`
  return { token: `${id}=${tokens[id]}`, root }
}
