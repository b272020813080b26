import { randomBytes } from 'node:crypto'
import { readFile, rename, writeFile } from 'node:fs/promises'
import { request } from 'node:https'
import { join, resolve as resolvePath } from 'node:path'
import { isProcess } from './process.ts'

/** All that a client needs to know of a lab. It is what `lab.json` in the lab's folder holds, with mode 0600. */
export interface LabConnection {
  /** https://127.0.0.1:<port> */
  endpoint: string
  /** SHA-256 of the certificate, upper-case hex with colons */
  fingerprint: string
  /** the first node */
  node: string
  /** all nodes, the first first */
  nodes: string[]
  /** imagebuild@pve!lab=<secret> */
  token: string
  root: { username: 'root@pam'; password: string }
  bridge: string
  network: { cidr: string; gateway: string; dns: string; pool: { first: string; last: string } }
  storages: { id: string; type: string; content: string[] }[]
  /** the Proxmox VE that it plays: `9.2.11`; missing: of an earlier imagebuild, which played 8.4 */
  pve?: string
  /** the daemon's process */
  pid: number
  version: string
}

const file = (dir: string) => join(dir, 'lab.json')

/** What was last written, by whichever daemon: it may be long gone. */
export async function readConnection(dir: string): Promise<LabConnection | undefined> {
  const text = await readFile(file(dir), 'utf8').catch(() => undefined)
  return text === undefined ? undefined : (JSON.parse(text) as LabConnection)
}

/** In one step: a reader sees the old one or the new one. */
export async function writeConnection(dir: string, connection: LabConnection): Promise<void> {
  const partial = `${file(dir)}.${randomBytes(4).toString('hex')}`
  await writeFile(partial, `${JSON.stringify(connection, undefined, 2)}\n`, { mode: 0o600 })
  await rename(partial, file(dir))
}

/** The lab's daemon, if its process is alive, whether it answers or not. Its folder is its last argument. */
export async function daemonOf(dir: string): Promise<number | undefined> {
  return (await runningLab(dir))?.pid
}

/** The connection to a lab whose daemon is alive; it may not answer yet, or no longer. */
export async function runningLab(folder: string): Promise<LabConnection | undefined> {
  const dir = resolvePath(folder)
  const connection = await readConnection(dir)
  return connection && (await isProcess(connection.pid, dir)) ? connection : undefined
}

/** The connection to a lab that answers. */
export async function answering(dir: string): Promise<LabConnection | undefined> {
  const connection = await runningLab(dir)
  if (connection === undefined) return undefined
  const ca = await readFile(join(dir, 'tls.crt'), 'utf8')
  return (await answers(connection, ca)) ? connection : undefined
}

/** How often a lab is asked that ends connections without an answer, as `faults` in its config.json can say. */
const TRIES = 10

async function answers(lab: LabConnection, ca: string): Promise<boolean> {
  for (let n = 0; n < TRIES; n += 1) {
    const answer = await ask(lab, ca)
    if (answer !== 'cut off') return answer
  }
  return false
}

/** Trusts this one certificate, and therefore no name. */
function ask({ endpoint, token }: LabConnection, ca: string): Promise<boolean | 'cut off'> {
  return new Promise((resolve) => {
    const asked = request(
      `${endpoint}/api2/json/version`,
      {
        ca,
        checkServerIdentity: () => undefined,
        agent: false,
        timeout: 5000,
        headers: { authorization: `PVEAPIToken=${token}` },
      },
      (response) => {
        response.resume()
        response.on('end', () => resolve(response.statusCode === 200))
      },
    )
    asked.on('timeout', () => asked.destroy(new Error('no answer')))
    asked.on('error', (error: NodeJS.ErrnoException) => resolve(error.code === 'ECONNRESET' && 'cut off'))
    asked.end()
  })
}
