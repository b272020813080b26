import { readFile } from 'node:fs/promises'
import { createConnection } from 'node:net'
import { networkInterfaces } from 'node:os'
import { setTimeout as delay } from 'node:timers/promises'
import { execa } from 'execa'
import { asOfNow } from '../core/pauses.ts'
import { withDeadline } from '../core/scope.ts'
import { addressToNumber } from '../plan/network.ts'

/**
 * Whether anybody answers at an address at this moment. On a link of this machine the kernel is made to ask by ARP,
 * and its neighbour table says who answered; elsewhere only TCP and ICMP remain, which a firewall may swallow.
 *
 * An entry that the neighbour table has already is no answer: a temporary guest of ours had the same address with the
 * same MAC a moment ago, that is what pairs are for. Where it may be deleted, the kernel asks anew.
 */

/** Milliseconds for an answer. On a link one comes within a few; the kernel asks a second time after 1000. */
const ANSWER_MILLISECONDS = 800
const LOOK_AGAIN = 25

/** The port that TCP asks for: open or closed, either is an answer. */
const SSH = 22

export interface Answer {
  /** upper case; missing where it did not come over this machine's own link */
  mac?: string
  by: 'ARP' | 'TCP' | 'ping' | 'this machine'
}

/** @returns undefined where nobody answers within 0.8 s */
export async function probeAddress(address: string, signal: AbortSignal): Promise<Answer | undefined> {
  return await asOfNow(() => probeOnce(address, signal))
}

async function probeOnce(address: string, signal: AbortSignal): Promise<Answer | undefined> {
  const link = linkTo(address)
  if (link === OWN) return { by: 'this machine' }
  if (link === LOOPBACK) return undefined
  const stop = new AbortController()
  using late = withDeadline(signal, ANSWER_MILLISECONDS / 1000, 'an answer')
  const until = AbortSignal.any([late, stop.signal])
  try {
    const byArp = link !== undefined && (await isForgotten(address, link))
    const answer = await first([
      connect(address, until),
      byArp ? watchNeighbour(address, link, until) : ping(address, until),
    ])
    signal.throwIfAborted()
    if (answer === undefined || link === undefined) return answer
    const mac = (await neighbour(address, link).catch(() => undefined))?.mac
    return { ...answer, ...(mac !== undefined && { mac }) }
  } finally {
    stop.abort()
  }
}

const OWN = Symbol('an address of this machine')
/** all of it leads back to this machine, so that closed ports answer too; others are not there */
const LOOPBACK = Symbol('the loopback network')

/** The interface of this machine in whose network the address lies. */
function linkTo(address: string): string | typeof OWN | typeof LOOPBACK | undefined {
  const wanted = addressToNumber(address)
  let found: string | typeof LOOPBACK | undefined
  for (const [name, addresses] of Object.entries(networkInterfaces())) {
    for (const own of addresses ?? []) {
      if (own.family !== 'IPv4') continue
      if (own.address === address) return OWN
      const size = 2 ** (32 - Number(own.cidr?.split('/')[1] ?? 32))
      if (Math.floor(wanted / size) === Math.floor(addressToNumber(own.address) / size))
        found = own.internal ? LOOPBACK : name
    }
  }
  return found
}

/** Flags in /proc/net/arp. */
const COMPLETE = 0x2
const PERMANENT = 0x4

interface Neighbour {
  /** upper case; missing where nobody has answered */
  mac?: string
  /** somebody has written it down: it says nothing of now, and is not ours to remove */
  permanent: boolean
}

/** The kernel's entry, of now or of long ago. @throws where this system has no such table */
async function neighbour(address: string, link: string): Promise<Neighbour | undefined> {
  const table = await readFile('/proc/net/arp', 'utf8')
  for (const line of table.split('\n')) {
    const [ip, , flags = '0x0', mac = '', , device] = line.trim().split(/\s+/)
    if (ip !== address || device !== link) continue
    const complete = (Number(flags) & COMPLETE) !== 0
    return { permanent: (Number(flags) & PERMANENT) !== 0, ...(complete && { mac: mac.toUpperCase() }) }
  }
  return undefined
}

/** @returns true where the kernel has no MAC for the address (any more): one that appears from now on is an answer */
async function isForgotten(address: string, link: string): Promise<boolean> {
  try {
    const known = await neighbour(address, link)
    if (known?.mac === undefined) return true
    // Only root may; nothing is lost but an answer that is asked for again.
    if (!known.permanent) await execa('ip', ['neighbour', 'delete', address, 'dev', link], { reject: false })
    return (await neighbour(address, link))?.mac === undefined
  } catch {
    return false
  }
}

async function watchNeighbour(
  address: string,
  link: string,
  until: AbortSignal,
): Promise<Answer | undefined> {
  while (!until.aborted) {
    if ((await neighbour(address, link))?.mac !== undefined) return { by: 'ARP' }
    await delay(LOOK_AGAIN, undefined, { signal: until }).catch(() => undefined)
  }
  return undefined
}

/** A connection, or its refusal, is an answer; that a host is unreachable, or silence, is none. */
async function connect(address: string, until: AbortSignal): Promise<Answer | undefined> {
  const socket = createConnection({ host: address, port: SSH })
  const { promise, resolve } = Promise.withResolvers<Answer | undefined>()
  const give = () => resolve(undefined)
  socket.once('connect', () => resolve({ by: 'TCP' }))
  socket.once('error', (error: NodeJS.ErrnoException) =>
    resolve(error.code === 'ECONNREFUSED' || error.code === 'ECONNRESET' ? { by: 'TCP' } : undefined),
  )
  until.addEventListener('abort', give, { once: true })
  return await promise.finally(() => {
    until.removeEventListener('abort', give)
    socket.on('error', () => {})
    socket.destroy()
  })
}

/** Where this machine has no `ping`, or may not, it has no opinion. */
async function ping(address: string, until: AbortSignal): Promise<Answer | undefined> {
  const { exitCode } = await execa('ping', ['-n', '-q', '-c', '1', '-W', '1', address], {
    reject: false,
    cancelSignal: until,
  })
  return exitCode === 0 ? { by: 'ping' } : undefined
}

/** The first that is an answer; undefined when none is one. */
async function first(answers: readonly Promise<Answer | undefined>[]): Promise<Answer | undefined> {
  const { promise, resolve } = Promise.withResolvers<Answer | undefined>()
  for (const answer of answers) answer.then((found) => found !== undefined && resolve(found))
  Promise.allSettled(answers).then(() => resolve(undefined))
  return await promise
}
