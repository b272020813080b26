import { execFile, execFileSync, spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdir, mkdtemp, rm, rmdir, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir, userInfo } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { reachSsh } from '../../src/ssh/knock.ts'
import { generateKeyPair, type KeyPair } from '../../src/ssh/openssh.ts'

/** A real sshd of our own on loopback, with keys of its own; the system's sshd and its files play no part. */

const PROGRAM = '/usr/sbin/sshd'

/** Why the tests against a real server cannot run here, or false. */
export const noSshd: string | false = existsSync(PROGRAM)
  ? false
  : `${PROGRAM} is missing (apt-get install openssh-server)`

export const noSudo: string | false =
  existsSync('/usr/bin/sudo') && userInfo().uid === 0 ? false : 'needs sudo, and root'

export const noNamespace: string | false = (() => {
  try {
    execFileSync('unshare', ['-m', 'true'], { stdio: 'ignore' })
    return false
  } catch {
    return 'needs root and unshare (util-linux)'
  }
})()

export interface Sshd extends AsyncDisposable {
  port: number
  username: string
  hostKey: KeyPair
  userKey: KeyPair
  directory: string
  /** ends the listening process; logged-in sessions go on, as they do in a real sshd */
  stop(): Promise<void>
}

interface SshdOptions {
  port?: number
  hostKey?: KeyPair
  extra?: string
}

/** Tries another port where somebody has taken the one that was free a moment ago. */
export async function startSshd(options: SshdOptions = {}): Promise<Sshd> {
  for (let left = 5; ; left -= 1) {
    try {
      return await startOnce(options)
    } catch (error) {
      const isTaken = options.port === undefined && /Address already in use/.test(String(error))
      if (!isTaken || left === 0) throw error
    }
  }
}

async function startOnce(options: SshdOptions): Promise<Sshd> {
  const directory = await mkdtemp(join(tmpdir(), 'imagebuild-sshd-'))
  const [hostKey, userKey] = await Promise.all([
    options.hostKey ?? generateKeyPair('host'),
    generateKeyPair('user'),
  ])
  const port = options.port ?? (await freePort())
  const file = (name: string) => join(directory, name)
  await writeFile(file('host_key'), hostKey.privateKey, { mode: 0o600 })
  await writeFile(file('authorized_keys'), `${userKey.publicKey}\n`, { mode: 0o600 })
  await writeFile(
    file('config'),
    [
      `ListenAddress 127.0.0.1:${port}`,
      `HostKey ${file('host_key')}`,
      `AuthorizedKeysFile ${file('authorized_keys')}`,
      'PidFile none',
      'UsePAM no',
      'StrictModes no',
      'PermitRootLogin prohibit-password',
      'PasswordAuthentication no',
      options.extra ?? '',
    ].join('\n'),
  )
  // sshd as root refuses to start without it; systemd makes it for the service.
  const made =
    userInfo().uid === 0 && (await mkdir('/run/sshd', { recursive: true, mode: 0o755 })) !== undefined
  const config = ['-f', file('config'), ...(await withoutPenalties(file('config')))]
  const child = spawn(PROGRAM, ['-D', '-e', ...config], { stdio: ['ignore', 'ignore', 'pipe'] })
  let log = ''
  child.stderr.on('data', (chunk) => {
    log += chunk
  })
  const exited = new Promise<void>((resolve) => child.once('exit', () => resolve()))
  const stop = async () => {
    child.kill('SIGTERM')
    await exited
  }
  while (!(await reachSsh('127.0.0.1', port, AbortSignal.timeout(60_000))).connected) {
    if (child.exitCode !== null) throw new Error(`sshd does not start: ${log}`)
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
  return {
    port,
    username: userInfo().username,
    hostKey,
    userKey,
    directory,
    stop,
    async [Symbol.asyncDispose]() {
      await stop()
      await rm(directory, { recursive: true, force: true })
      // Another test may still use it.
      if (made) await rmdir('/run/sshd').catch(() => {})
    },
  }
}

/** From OpenSSH 9.8 on it shuts out whoever is refused several times, as most tests are on purpose. */
async function withoutPenalties(config: string): Promise<string[]> {
  const { stdout } = await promisify(execFile)(PROGRAM, ['-T', '-f', config])
  return /^persourcepenalties /m.test(stdout) ? ['-o', 'PerSourcePenalties=no'] : []
}

export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await new Promise((resolve) => server.once('listening', resolve))
  const { port } = server.address() as { port: number }
  await new Promise((resolve) => server.close(resolve))
  return port
}

/** The argument vectors of all processes, as `ps` shows them to everybody. */
export async function processList(): Promise<string> {
  return (await promisify(execFile)('ps', ['-e', '-o', 'args=', '-ww'])).stdout
}
