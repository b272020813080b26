import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { execa } from 'execa'
import type { Log } from '../../world.ts'
import type { Tree } from './tree.ts'

const TYPES = ['rsa', 'ecdsa', 'ed25519'] as const

/** New SSH host keys, where there is an SSH server; logs their fingerprints, which is how a client can trust them. */
export async function makeHostKeys(tree: Tree, hostname: string, log: Log): Promise<void> {
  if (!(await tree.exists('/etc/ssh'))) return
  // Private keys are made where only root comes, not in the tree: ssh-keygen would follow its links.
  const folder = await mkdtemp(join(tmpdir(), 'imagebuild-host-keys-'))
  try {
    const comment = `root@${hostname}`
    const made = TYPES.map(async (type) => {
      const file = join(folder, `ssh_host_${type}_key`)
      await execa('ssh-keygen', ['-q', '-t', type, '-N', '', '-C', comment, '-f', file])
      return file
    })
    // Awaited one after the other below; a failure of a later one must not be nobody's.
    for (const key of made) key.catch(() => undefined)
    for (const [index, type] of TYPES.entries()) {
      const name = `ssh_host_${type}_key`
      log(`Creating SSH host key '${name}' - this may take some time ...`)
      const file = (await made[index]) as string
      await tree.write(`/etc/ssh/${name}`, await readFile(file, 'utf8'), 0o600)
      await tree.write(`/etc/ssh/${name}.pub`, await readFile(`${file}.pub`, 'utf8'), 0o644)
      const { stdout } = await execa('ssh-keygen', ['-l', '-f', `${file}.pub`])
      log(`done: ${stdout.split(' ')[1]} ${comment}`)
    }
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}
