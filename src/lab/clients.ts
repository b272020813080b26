import { readdir, readFile, readlink } from 'node:fs/promises'

/** Who is connected to a port of this machine, as the kernel knows it (proc(5), /proc/net/tcp). */
export interface Client {
  /** the process at the other end, where it runs on this machine */
  pid?: number
  /** its name; the address where it runs elsewhere */
  name: string
}

/** `st` of an established connection. */
const ESTABLISHED = '01'

interface Connection {
  /** address and port in the kernel's hex */
  local: string
  remote: string
  inode: string
}

/** One entry for each process, or each address of another machine. */
export async function clientsOf(port: number): Promise<Client[]> {
  const all = (await Promise.all(['tcp', 'tcp6'].map(connections))).flat()
  const suffix = `:${port.toString(16).toUpperCase().padStart(4, '0')}`
  const served = all.filter(({ local }) => local.endsWith(suffix))
  const others = new Map(all.map((one) => [`${one.local} ${one.remote}`, one]))
  const ends = served.map(({ local, remote }) => ({ remote, other: others.get(`${remote} ${local}`) }))
  const pids = await processesWith(new Set(ends.flatMap(({ other }) => other?.inode ?? [])))
  const found = new Map<string, Client>()
  for (const { remote, other } of ends) {
    const pid = other && pids.get(other.inode)
    if (pid !== undefined) found.set(`process ${pid}`, { pid, name: await nameOf(pid) })
    else if (other === undefined) found.set(addressOf(remote), { name: addressOf(remote) })
  }
  return [...found.values()]
}

async function connections(table: string): Promise<Connection[]> {
  const text = await readFile(`/proc/net/${table}`, 'utf8').catch(() => '')
  return text.split('\n').flatMap((line) => {
    const [, local = '', remote = '', state, , , , , , inode = ''] = line.trim().split(/\s+/)
    return state === ESTABLISHED ? [{ local: plain(local), remote: plain(remote), inode }] : []
  })
}

/** An IPv4 address in an IPv6 socket is the same address. */
function plain(end: string): string {
  return end.replace(/^0{16}FFFF0000(?=[0-9A-F]{8}:)/, '')
}

/** The bytes of an IPv4 address stand there in the order of this machine's processor: the last first. */
function addressOf(end: string): string {
  const hex = end.split(':', 1)[0] ?? ''
  if (hex.length !== 8) return 'another machine, by IPv6'
  return [...hex.matchAll(/../g)]
    .reverse()
    .map(([byte]) => Number.parseInt(byte, 16))
    .join('.')
}

/** Sockets by inode → the process that has it open. */
async function processesWith(inodes: ReadonlySet<string>): Promise<Map<string, number>> {
  const found = new Map<string, number>()
  if (inodes.size === 0) return found
  for (const pid of (await readdir('/proc')).filter((name) => /^\d+$/.test(name))) {
    const folder = `/proc/${pid}/fd`
    const links = await Promise.all(
      (await readdir(folder).catch(() => [])).map((fd) => readlink(`${folder}/${fd}`).catch(() => '')),
    )
    for (const link of links) {
      const inode = /^socket:\[(\d+)\]$/.exec(link)?.[1]
      if (inode !== undefined && inodes.has(inode)) found.set(inode, Number(pid))
    }
  }
  return found
}

/** What it is called; not its arguments, which may be nobody's business. */
async function nameOf(pid: number): Promise<string> {
  const [comm, command] = await Promise.all(
    ['comm', 'cmdline'].map((file) => readFile(`/proc/${pid}/${file}`, 'utf8').catch(() => '')),
  )
  // Of Node the kernel only knows that.
  if (/\/src\/cli\/main\.ts$/.test(command?.split('\0').find((word) => word.endsWith('.ts')) ?? ''))
    return 'imagebuild'
  return comm?.trim() || 'a process'
}
