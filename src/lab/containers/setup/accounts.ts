import { execa } from 'execa'
import { withManagedBlock } from './managed-block.ts'
import type { Tree } from './tree.ts'

/** Sets root's password; without one nobody can log in as root by password. Neither argv nor any log sees it. */
export async function setPassword(tree: Tree, password: string | undefined): Promise<void> {
  const shadow = await tree.read('/etc/shadow')
  if (shadow === undefined) return
  const hash = password === undefined ? '*' : await hashed(password)
  const day = Math.floor(Date.now() / 86_400_000)
  const lines = shadow.split('\n').map((line) => {
    const [name, _hash, _changed, ...rest] = line.split(':')
    return name === 'root' ? [name, hash, day, ...rest].join(':') : line
  })
  await tree.write('/etc/shadow', lines.join('\n'))
}

/** `keys`: lines of authorized_keys */
export async function setAuthorizedKeys(tree: Tree, keys: string): Promise<void> {
  const passwd = (await tree.read('/etc/passwd')) ?? ''
  const home = /^root:(?:[^:]*:){4}([^:]*):/m.exec(passwd)?.[1] || '/root'
  await tree.makeFolder(`${home}/.ssh`, 0o700)
  const file = `${home}/.ssh/authorized_keys`
  const there = (await tree.read(file)) ?? ''
  await tree.write(file, withManagedBlock(there, keys.trimEnd().split('\n')), 0o600)
}

async function hashed(password: string): Promise<string> {
  if (/[\n\0]/.test(password)) throw new Error('a password has one line')
  const { stdout } = await execa('openssl', ['passwd', '-6', '-stdin'], { input: password })
  return stdout
}
