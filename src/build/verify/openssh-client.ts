import { randomBytes } from 'node:crypto'
import { chmod, rm, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { execa } from 'execa'
import { ImagebuildError } from '../../core/errors.ts'
import { pauses } from '../../core/pauses.ts'
import { withDeadline } from '../../core/scope.ts'
import { knownHostsLine } from '../../ssh/openssh.ts'
import { remoteScript } from '../../ssh/remote-script.ts'
import type { Answered, AskOptions, Examiner } from './examiner.ts'
import { privateFolder } from './private-folder.ts'

/**
 * OpenSSH's own client, since the library that builds use knows no certificates and nothing post-quantum; and it is what
 * consumers log in with. Nothing of this machine's configuration plays a part, and none of its keys that is not asked for.
 */

/** Files: a private key, and a certificate for it. With `agent`, a public key whose private half the user's agent holds. */
export interface ByKey {
  key: string
  certificate?: string
  agent?: true
}
export type Credentials = ByKey | { password: string }

/** `refused` is the server's word; `unreachable` is all that is none. */
export interface Attempt {
  outcome: 'accepted' | 'refused' | 'unreachable'
  /** OpenSSH's own words */
  why: string
}

/** Seconds for TCP and the handshake; an emulated guest needs some for it. */
const CONNECT_SECONDS = 30

export interface ClientOptions {
  host: string
  port?: number
  /** public key lines: no other host key is accepted */
  hostKeys: readonly string[]
}

export class OpenSshClient implements AsyncDisposable {
  readonly host: string
  readonly port: number
  readonly #folder: string

  private constructor(host: string, port: number, folder: string) {
    this.host = host
    this.port = port
    this.#folder = folder
  }

  static async open({ host, port = 22, hostKeys }: ClientOptions): Promise<OpenSshClient> {
    const folder = await privateFolder()
    const lines = hostKeys.map((key) => knownHostsLine(host, port, key))
    await writeFile(join(folder, 'known_hosts'), lines.join(''))
    return new OpenSshClient(host, port, folder)
  }

  /** Writes a file for one of its logins, readable by nobody else. @returns its path */
  async file(name: string, content: string, mode = 0o600): Promise<string> {
    const path = join(this.#folder, name)
    await writeFile(path, content, { mode })
    await chmod(path, mode)
    return path
  }

  /** Makes a file that lies elsewhere one of its own by name: options of ssh split and expand what stands in paths. */
  async link(name: string, target: string): Promise<string> {
    const path = join(this.#folder, name)
    await symlink(target, path)
    return path
  }

  /** Whether somebody gets in; `asRoot`: and becomes root there. */
  async attempt(user: string, by: Credentials, signal?: AbortSignal, asRoot = false): Promise<Attempt> {
    const { started, stderr } = await this.#run(user, by, 'exit 0', {
      asRoot,
      seconds: 60,
      ...(signal && { signal }),
    })
    if (started) return { outcome: 'accepted', why: '' }
    const why = stderr.trim()
    // As ssh(1) itself says it; the client's exit code is 255 for whatever went wrong.
    const refused = /^\S+@\S+: Permission denied \(/m.test(why)
    return { outcome: refused ? 'refused' : 'unreachable', why: why || 'no answer' }
  }

  /** The machine as this user sees it. */
  as(user: string, by: Credentials): Examiner {
    return {
      run: async (script, options) => {
        const { started, ...answered } = await this.#run(user, by, script, options)
        if (started) return answered
        throw new ImagebuildError({
          code: 'build_failed',
          what: `the clone at ${this.host} could not be asked`,
          why: answered.stderr.trim() || 'the connection ended',
        })
      },
    }
  }

  async #run(
    user: string,
    by: Credentials,
    script: string,
    options: AskOptions,
  ): Promise<Answered & { started: boolean }> {
    for (;;) {
      const { count } = pauses
      const { began, ...answered } = await this.#runOnce(user, by, script, options)
      pauses.look()
      // What waited for us may have given up while this process did not run; nothing has been done yet.
      if (began || pauses.count === count) return answered
    }
  }

  async #runOnce(
    user: string,
    by: Credentials,
    script: string,
    { asRoot, env, seconds, signal }: AskOptions,
  ): Promise<Answered & { started: boolean; began: boolean }> {
    signal?.throwIfAborted()
    using deadline = withDeadline(signal, seconds, 'a command in the clone')
    const mark = `imagebuild${randomBytes(8).toString('hex')}`
    const { commandLine, preamble } = remoteScript(script, {
      mark,
      sudo: asRoot && user !== 'root',
      ...(env && { env }),
    })
    const { args, env: own } = await this.#login(by)
    const result = await execa(
      'ssh',
      [...args, '-p', String(this.port), `${user}@${this.host}`, commandLine],
      {
        input: preamble,
        env: own,
        reject: false,
        stripFinalNewline: false,
        cancelSignal: deadline,
      },
    )
    signal?.throwIfAborted()
    if (result.code === 'ENOENT') {
      throw new ImagebuildError({
        code: 'prerequisite_missing',
        what: 'clones are verified by OpenSSH’s client, which is not installed',
        next: 'apt-get install openssh-client',
      })
    }
    const [before = '', after] = split(result.stderr, mark)
    const late = result.isCanceled ? `no end after ${seconds} s\n` : ''
    const began = after !== undefined
    const started = began && !result.isCanceled
    const stderr = started ? before + after : `${before}${after ?? ''}${late}`
    return { began, started, exitCode: result.exitCode ?? -1, stdout: result.stdout, stderr }
  }

  async #login(by: Credentials): Promise<{ args: string[]; env: Record<string, string> }> {
    const common: Record<string, string | number> = {
      UserKnownHostsFile: join(this.#folder, 'known_hosts'),
      GlobalKnownHostsFile: '/dev/null',
      StrictHostKeyChecking: 'yes',
      UpdateHostKeys: 'no',
      IdentityAgent: 'none',
      IdentitiesOnly: 'yes',
      GSSAPIAuthentication: 'no',
      ConnectTimeout: CONNECT_SECONDS,
      ServerAliveInterval: 15,
      ServerAliveCountMax: 4,
      LogLevel: 'ERROR',
    }
    if ('password' in by) {
      // Neither in arguments nor in an environment: a file that the asked program prints.
      const secret = await this.file('password', by.password)
      const program = await this.file('askpass', `#!/bin/sh\nexec cat '${secret}'\n`, 0o700)
      return {
        args: options({
          ...common,
          PubkeyAuthentication: 'no',
          PreferredAuthentications: 'password,keyboard-interactive',
          NumberOfPasswordPrompts: 1,
        }),
        env: { SSH_ASKPASS: program, SSH_ASKPASS_REQUIRE: 'force', LC_ALL: 'C' },
      }
    }
    return {
      args: options({
        ...common,
        BatchMode: 'yes',
        PreferredAuthentications: 'publickey',
        IdentityFile: by.key,
        ...(by.agent && { IdentityAgent: 'SSH_AUTH_SOCK' }),
        ...(by.certificate !== undefined && { CertificateFile: by.certificate }),
      }),
      env: { LC_ALL: 'C' },
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.#folder, { recursive: true, force: true })
  }
}

/** `-F none`: no configuration file; `-T`: no terminal. */
function options(values: Record<string, string | number>): string[] {
  return [
    '-F',
    'none',
    '-T',
    ...Object.entries(values).flatMap(([name, value]) => ['-o', `${name}=${value}`]),
  ]
}

/** Around the line by which the shell on the other side says that it runs. */
function split(stderr: string, mark: string): [string, string?] {
  const start = stderr.indexOf(mark)
  if (start < 0) return [stderr]
  const end = stderr.indexOf('\n', start)
  return [stderr.slice(0, start), end < 0 ? '' : stderr.slice(end + 1)]
}

/** The host keys that a server shows to whoever asks, as public key lines. */
export async function scanHostKeys(host: string, signal: AbortSignal): Promise<string[]> {
  const { stdout } = await execa('ssh-keyscan', ['-T', '10', host], { reject: false, cancelSignal: signal })
  signal.throwIfAborted()
  return String(stdout ?? '')
    .split('\n')
    .filter((line) => line !== '' && !line.startsWith('#'))
    .map((line) => line.slice(line.indexOf(' ') + 1))
    .sort()
}
