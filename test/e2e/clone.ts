import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { execa } from 'execa'
import { poll } from '../../src/core/scope.ts'
import { destroyGuest } from '../../src/pve/destroy.ts'
import { generateKeyPair, knownHostsLine } from '../../src/ssh/openssh.ts'
import { labClient } from './harness.ts'

/** A clone of a template, entered the way consumers do: Proxmox's cloud-init drive, OpenSSH's own client. */
export interface Clone extends AsyncDisposable {
  address: string
  /** the command's stdout; throws when it fails */
  run(command: string): Promise<string>
}

export async function bootClone({ template, vmid }: { template: number; vmid: number }): Promise<Clone> {
  const pve = await labClient()
  const node = pve.api.nodes.$('lab')
  const guest = node.qemu.$(vmid)
  const signal = AbortSignal.timeout(600_000)
  const folder = await mkdtemp(join(tmpdir(), 'imagebuild-e2e-clone-'))
  const readByAgent = async (file: string) => {
    const answer = (await guest.agent['file-read'].$get({ file }).catch(() => undefined)) as unknown as
      | { content: string }
      | undefined
    return answer?.content.startsWith('ssh-') ? answer.content : undefined
  }
  const clone: Clone = {
    address: '',
    run: async (command) => {
      const options = [
        '-o',
        'BatchMode=yes',
        '-o',
        `UserKnownHostsFile=${folder}/known_hosts`,
        '-o',
        'StrictHostKeyChecking=yes',
        '-o',
        'ConnectTimeout=5',
      ]
      const { stdout } = await execa(
        'ssh',
        [...options, '-i', `${folder}/key`, `tester@${clone.address}`, command],
        { stdin: 'ignore' },
      )
      return stdout
    },
    [Symbol.asyncDispose]: async () => {
      await destroyGuest(pve, { kind: 'vm', node: 'lab', vmid, signal: AbortSignal.timeout(120_000) })
      await pve[Symbol.asyncDispose]()
      await rm(folder, { recursive: true, force: true })
    },
  }
  try {
    const keys = await generateKeyPair('tester')
    await writeFile(`${folder}/key`, keys.privateKey, { mode: 0o600 })
    const upid = (await node.qemu.$(template).clone.$post({ newid: vmid, name: `clone-${vmid}` })) as string
    await pve.waitTask(upid, { seconds: 120 })
    await guest.config.$put({
      ciuser: 'tester',
      sshkeys: encodeURIComponent(keys.publicKey),
      ipconfig0: 'ip=dhcp',
      // Linked clones inherit the marks; a consumer's tags are their own business.
      tags: 'consumer',
    } as never)
    await pve.waitTask((await guest.status.start.$post()) as string, { seconds: 120 })
    clone.address = await poll(
      async () => {
        const answer = (await guest.agent['network-get-interfaces']
          .$get()
          .catch(() => undefined)) as unknown as
          | {
              result: {
                name: string
                'ip-addresses'?: { 'ip-address': string; 'ip-address-type': string }[]
              }[]
            }
          | undefined
        return answer?.result
          .filter(({ name }) => name !== 'lo')
          .flatMap((nic) => nic['ip-addresses'] ?? [])
          .find((entry) => entry['ip-address-type'] === 'ipv4')?.['ip-address']
      },
      { signal, first: 500, max: 1000 },
    )
    // The clone's own host key, over the connection that is trusted already: nothing is accepted on first use.
    const hostKey = await poll(async () => await readByAgent('/etc/ssh/ssh_host_ed25519_key.pub'), {
      signal,
      first: 500,
      max: 1000,
    })
    await writeFile(`${folder}/known_hosts`, knownHostsLine(clone.address, 22, hostKey))
    await poll(async () => (await clone.run('true').catch(() => undefined)) !== undefined || undefined, {
      signal,
      first: 500,
      max: 3000,
    })
    return clone
  } catch (error) {
    await clone[Symbol.asyncDispose]()
    throw error
  }
}
