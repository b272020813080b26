import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { execa } from 'execa'
import { poll } from '../src/core/scope.ts'
import type { Pve } from '../src/pve/client.ts'
import { destroyGuest } from '../src/pve/destroy.ts'
import { generateKeyPair, knownHostsLine } from '../src/ssh/openssh.ts'

/** A clone of a template, entered the way consumers do: Proxmox's cloud-init drive, OpenSSH's own client. */
export interface Clone extends AsyncDisposable {
  address: string
  /** wall-clock time from the request to start it to the end of the first login */
  secondsToLogin: number
  /**
   * A command of the user `tester`, who may sudo. Gives its stdout.
   * @param inputFile what it reads: a file of this machine
   * @throws Error of execa when it fails
   */
  run(command: string, inputFile?: string): Promise<string>
}

export interface CloneOptions {
  pve: Pve
  node: string
  template: number
  /** of the clone: a free one */
  vmid: number
  signal: AbortSignal
}

/** Milliseconds between two tries: short, since the time to the first login is a figure. */
const EVERY = { first: 250, max: 250 }

/** Clones, starts, and waits for the first login. Disposing destroys the clone. */
export async function bootClone({ pve, node, template, vmid, signal }: CloneOptions): Promise<Clone> {
  const { qemu } = pve.api.nodes.$(node)
  const guest = qemu.$(vmid)
  const folder = await mkdtemp(join(tmpdir(), 'imagebuild-clone-'))
  const clone: Clone = {
    address: '',
    secondsToLogin: 0,
    run: async (command, inputFile) => {
      const input = inputFile === undefined ? ({ stdin: 'ignore' } as const) : { inputFile }
      const args = [...sshOptions(folder), `tester@${clone.address}`, command]
      return (await execa('ssh', args, { ...input, cancelSignal: signal })).stdout
    },
    [Symbol.asyncDispose]: async () => {
      const cleanup = AbortSignal.timeout(120_000)
      await destroyGuest(pve.withSignal(cleanup), { kind: 'vm', node, vmid, signal: cleanup })
      await rm(folder, { recursive: true, force: true })
    },
  }
  try {
    const keys = await generateKeyPair('tester')
    await writeFile(`${folder}/key`, keys.privateKey, { mode: 0o600 })
    const upid = (await qemu.$(template).clone.$post({ newid: vmid, name: `clone-${vmid}` })) as string
    await pve.waitTask(upid, { seconds: 120 })
    await guest.config.$put({
      ciuser: 'tester',
      sshkeys: encodeURIComponent(keys.publicKey),
      ipconfig0: 'ip=dhcp',
      // Linked clones inherit the marks; a consumer's tags are their own business.
      tags: 'consumer',
    } as never)
    const started = performance.now()
    await pve.waitTask((await guest.status.start.$post()) as string, { seconds: 120 })
    clone.address = await poll(() => addressOf(pve, node, vmid), { signal, ...EVERY })
    // The clone's own host key, over the connection that is trusted already: nothing is accepted on first use.
    const hostKey = await poll(() => readHostKey(pve, node, vmid), { signal, ...EVERY })
    await writeFile(`${folder}/known_hosts`, knownHostsLine(clone.address, 22, hostKey))
    await poll(async () => (await clone.run('true').catch(() => undefined)) !== undefined || undefined, {
      signal,
      ...EVERY,
    })
    clone.secondsToLogin = (performance.now() - started) / 1000
    return clone
  } catch (error) {
    await clone[Symbol.asyncDispose]()
    throw error
  }
}

function sshOptions(folder: string): string[] {
  const options = {
    BatchMode: 'yes',
    ConnectTimeout: '5',
    IdentityFile: `${folder}/key`,
    IdentitiesOnly: 'yes',
    LogLevel: 'ERROR',
    // A scan says nothing for minutes, and a guest that goes down does not always say so.
    ServerAliveCountMax: '6',
    ServerAliveInterval: '10',
    StrictHostKeyChecking: 'yes',
    UserKnownHostsFile: `${folder}/known_hosts`,
  }
  return ['-F', 'none', ...Object.entries(options).flatMap(([name, value]) => ['-o', `${name}=${value}`])]
}

/** The first IPv4 address beyond the loopback's that the guest agent reports. */
async function addressOf(pve: Pve, node: string, vmid: number): Promise<string | undefined> {
  const { agent } = pve.api.nodes.$(node).qemu.$(vmid)
  const answer = (await agent['network-get-interfaces'].$get().catch(() => undefined)) as unknown as
    | { result: { name: string; 'ip-addresses'?: { 'ip-address': string; 'ip-address-type': string }[] }[] }
    | undefined
  return answer?.result
    .filter(({ name }) => name !== 'lo')
    .flatMap((nic) => nic['ip-addresses'] ?? [])
    .find((entry) => entry['ip-address-type'] === 'ipv4')?.['ip-address']
}

async function readHostKey(pve: Pve, node: string, vmid: number): Promise<string | undefined> {
  const { agent } = pve.api.nodes.$(node).qemu.$(vmid)
  const file = '/etc/ssh/ssh_host_ed25519_key.pub'
  const answer = (await agent['file-read'].$get({ file }).catch(() => undefined)) as unknown as
    | { content: string }
    | undefined
  return answer?.content.startsWith('ssh-') ? answer.content : undefined
}
