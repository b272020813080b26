import { mkdir, readdir, stat } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { reachDisk, writeDurably } from '../../core/durable-file.ts'
import { ImagebuildError } from '../../core/errors.ts'
import { lock } from '../../core/lock.ts'
import { quote, shellWord } from '../../core/shell-word.ts'

/**
 * The folder of an SSH CA, for its owner alone:
 *
 *     user_ca.pub, host_ca.pub   public keys that are trusted, newest first
 *     revoked.krl                what is revoked, as sshd's RevokedKeys wants it
 *     issued.log                 what was done
 *     keys/<n>/                  the nth pair: user_ca, host_ca, each with .pub
 *     retired/<n>/               public halves of pairs that are trusted no more
 *     hosts/<name>/              host keys handed out by host-seed, with their certificates
 */
export class CaFolder {
  readonly root: string

  constructor(folder: string) {
    this.root = resolve(folder)
  }

  get log(): string {
    return join(this.root, 'issued.log')
  }

  get krl(): string {
    return join(this.root, 'revoked.krl')
  }

  get keys(): string {
    return join(this.root, 'keys')
  }

  get retired(): string {
    return join(this.root, 'retired')
  }

  get hosts(): string {
    return join(this.root, 'hosts')
  }

  /** One at a time, in all processes of this machine; what has it must not ask for it again. */
  async lock(signal?: AbortSignal): Promise<AsyncDisposable> {
    return await lock(join(this.root, 'lock'), signal)
  }

  /** Numbers of the pairs of keys, newest first; none where there is no CA. */
  async generations(): Promise<number[]> {
    return await numbers(this.keys)
  }

  async retiredGenerations(): Promise<number[]> {
    return await numbers(this.retired)
  }

  /**
   * Makes the folder ready for a CA; what a crash has left of an earlier try is no hindrance.
   * @throws ImagebuildError `usage` where something else is in it
   */
  async prepare(): Promise<void> {
    try {
      await mkdir(this.root, { recursive: true, mode: 0o700 })
    } catch (cause) {
      throw new ImagebuildError({
        code: 'usage',
        what: `the SSH CA cannot have the folder ${this.root}`,
        why: (cause as Error).message,
        next: 'name another one: --folder',
        cause,
      })
    }
    await this.checkModes([])
    const ours =
      /^(\.gitignore|issued\.log|revoked\.krl|(user|host)_ca\.pub|keys|retired|hosts|lock|.*\.new)$/
    const foreign = (await readdir(this.root)).filter((name) => !ours.test(name))
    if (foreign.length > 0) {
      throw new ImagebuildError({
        code: 'usage',
        what: `the SSH CA cannot have the folder ${this.root}`,
        why: `there are other files in it: ${foreign.slice(0, 3).join(', ')}`,
        next: 'name a folder that is empty or not there yet: --folder',
      })
    }
    for (const folder of [this.keys, this.retired, this.hosts]) {
      await mkdir(folder, { recursive: true, mode: 0o700 })
    }
    // Keys get into repositories by `git add .`
    await writeDurably(join(this.root, '.gitignore'), '*\n', 0o600)
    await reachDisk(this.root)
  }

  /**
   * @param privateKeys files that nobody else may read
   * @throws ImagebuildError `not_found` where there is no such folder, `permission_denied` where others may look into it
   */
  async checkModes(privateKeys: readonly string[]): Promise<void> {
    const root = await stat(this.root).catch(() => undefined)
    if (!root?.isDirectory()) throw this.noCa()
    const open = [...(wide(root.mode) ? [{ path: this.root, mode: '700' }] : [])]
    for (const path of privateKeys) {
      if (wide((await stat(path)).mode)) open.push({ path, mode: '600' })
    }
    if (open.length === 0) return
    throw new ImagebuildError({
      code: 'permission_denied',
      what: 'others than you may read the keys of the SSH CA',
      why: open.map(({ path }) => path).join('\n'),
      next: open.map(({ path, mode }) => `chmod ${mode} ${quote(path)}`).join(' && '),
    })
  }

  noCa(): ImagebuildError {
    return new ImagebuildError({
      code: 'not_found',
      what: `there is no SSH CA in ${this.root}`,
      why: 'nobody has made one there, or it is somewhere else',
      next: `imagebuild ssh-ca init --folder ${shellWord(this.root)}, or name the right one: --folder`,
    })
  }
}

function wide(mode: number): boolean {
  return (mode & 0o077) !== 0
}

async function numbers(folder: string): Promise<number[]> {
  const names = await readdir(folder).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT' || error.code === 'ENOTDIR') return []
    throw new ImagebuildError({
      code: 'permission_denied',
      what: `the folder ${folder} of the SSH CA cannot be read`,
      why: error.message,
      next: 'run this as the user who owns it',
      cause: error,
    })
  })
  return names
    .filter((name) => /^[1-9]\d*$/.test(name))
    .map(Number)
    .sort((a, b) => b - a)
}
