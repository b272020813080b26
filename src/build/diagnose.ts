import { readFile } from 'node:fs/promises'
import type { Guest } from '../pve/guest.ts'
import { consoleCommand, guestLabel } from '../pve/guest-ref.ts'
import { type Reach, reachSsh } from '../ssh/knock.ts'

/** Lines of the console that an error quotes. */
const CONSOLE_LINES = 25

export interface Symptoms {
  guest: Guest
  endpoint: string
  address: string | undefined
  mac: string
  /** what its console printed from the start of the boot; or why nobody could listen */
  console: { lines: readonly string[] } | { unavailable: string }
}

/**
 * Why SSH never came up, as far as it can be seen from outside. Never throws: it is asked when something has
 * gone wrong already.
 */
export async function diagnose({ guest, endpoint, address, mac, console }: Symptoms): Promise<{
  why: string
  output: string[]
  next: string
}> {
  const signal = AbortSignal.timeout(15_000)
  const [status, agent, ssh, neighbour] = await Promise.all([
    guest.status().catch(() => undefined),
    guest.kind === 'vm' ? guest.agentAnswers().catch(() => undefined) : undefined,
    address === undefined ? undefined : reachSsh(address, 22, signal).catch(() => undefined),
    address === undefined ? undefined : neighbourOf(address),
  ])
  const facts = [
    status === undefined
      ? 'Proxmox does not tell the guest’s state'
      : `the guest is ${status.qmpstatus ?? status.status}, up ${status.uptime} s, received ${status.netin} and sent ${status.netout} bytes`,
    ...(agent === undefined ? [] : [agent ? 'its guest agent answers' : 'its guest agent does not answer']),
    address === undefined
      ? `it has no address yet that we know of (MAC ${mac}; by DHCP ${guest.kind === 'vm' ? 'the guest agent must tell it' : 'it has got none'})`
      : `${address} ${ssh === undefined ? 'gave no answer to a probe' : describeReach(ssh)}`,
    ...(neighbour === undefined
      ? []
      : [
          neighbour.toLowerCase() === mac.toLowerCase()
            ? `${address} is at ${mac} in this machine’s ARP cache, as it must be`
            : `${address} IS AT ${neighbour} in this machine’s ARP cache, but the guest has ${mac}: another machine uses the address, or the entry is stale`,
        ]),
    ...('unavailable' in console
      ? [`its console was not recorded: ${console.unavailable}`]
      : console.lines.length === 0
        ? ['its console has shown nothing']
        : []),
    ...(status?.netout === 0
      ? ['it has sent nothing at all: it did not boot, or its network did not come up']
      : []),
  ]
  return {
    why: facts.join('\n'),
    output:
      'lines' in console ? console.lines.filter((line) => line.trim() !== '').slice(-CONSOLE_LINES) : [],
    next: `run again with --on-error keep, then look at the console: Proxmox (${endpoint}) → ${guestLabel(guest)} → Console, or \`${consoleCommand(guest)}\` on ${guest.node}`,
  }
}

function describeReach(reach: Reach): string {
  if (reach.banner) return `answers on port 22 (${reach.banner})`
  if (reach.connected) return 'accepts connections on port 22, but no SSH server speaks there'
  return `does not answer on port 22 (${reach.why})`
}

/** The MAC that this machine's kernel has for an address on one of its own links. */
async function neighbourOf(address: string): Promise<string | undefined> {
  const table = await readFile('/proc/net/arp', 'utf8').catch(() => '')
  const row = table.split('\n').find((line) => line.startsWith(`${address} `))
  const mac = row?.split(/\s+/)[3]
  return mac === '00:00:00:00:00:00' ? undefined : mac
}
