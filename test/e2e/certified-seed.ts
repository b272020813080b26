import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { execa } from 'execa'

/** NoCloud seeds whose host key is what `ssh-ca host-seed` prints, and known_hosts with nothing but a CA's line. */

const MAIN = new URL('../../src/cli/main.ts', import.meta.url).pathname

/** The name that the certificate stands for. */
export const HOSTNAME = 'tester.home.example'

/** How a machine gets what host-seed prints: beside its user-data, as Proxmox can give it, or as a second part of them. */
export type Way = 'vendor-data' | 'multipart'

/** What `ssh-ca` prints. */
async function sshCa(ca: string, command: string, ...options: string[]): Promise<string> {
  const argv = [MAIN, 'ssh-ca', command, ...options, '--folder', ca]
  return (await execa(process.execPath, argv, { stripFinalNewline: false })).stdout
}

/** A CA in this folder. @returns path of a known_hosts that knows it alone */
export async function makeCa(ca: string): Promise<string> {
  await sshCa(ca, 'init', '--no-passphrase')
  await writeFile(`${ca}.known_hosts`, await sshCa(ca, 'known-hosts', '--domain', '*.home.example'))
  return `${ca}.known_hosts`
}

/**
 * @param folder has a CA in `ca`, and `user.pub`, the key that logs in as tester
 * @returns path of the ISO
 */
export async function makeSeed(folder: string, way: Way): Promise<string> {
  const seed = join(folder, way)
  await mkdir(seed)
  const user = {
    name: 'tester',
    sudo: 'ALL=(ALL) NOPASSWD:ALL',
    ssh_authorized_keys: [(await readFile(join(folder, 'user.pub'), 'utf8')).trim()],
  }
  // JSON is YAML too.
  const own = `#cloud-config\n${JSON.stringify({ users: [user] })}\n`
  const hostKey = await sshCa(join(folder, 'ca'), 'host-seed', HOSTNAME, '--alias', 'tester')
  if (way === 'vendor-data') await writeFile(join(seed, 'vendor-data'), hostKey)
  await writeFile(join(seed, 'user-data'), way === 'vendor-data' ? own : multipart([own, hostKey]))
  await writeFile(join(seed, 'meta-data'), 'instance-id: one\nlocal-hostname: tester\n')
  await execa('xorriso', ['-as', 'mkisofs', '-quiet', '-V', 'cidata', '-J', '-R', '-o', `${seed}.iso`, seed])
  return `${seed}.iso`
}

/** As `cloud-init devel make-mime` and Terraform's cloudinit_config write it. */
function multipart(parts: string[]): string {
  const head = 'Content-Type: multipart/mixed; boundary="PART"\nMIME-Version: 1.0\n\n'
  return `${head}${parts.map((part) => `--PART\nContent-Type: text/cloud-config\n\n${part}\n`).join('')}--PART--\n`
}
