import { execFile, execFileSync, spawn } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { vi } from 'vitest'
import { generateKeyPair } from '../../../src/ssh/openssh.ts'

/** A temporary folder for a CA and what a test puts beside it. */

export interface Scratch extends AsyncDisposable {
  path(...names: string[]): string
}

export async function scratch(): Promise<Scratch> {
  const root = await mkdtemp(join(tmpdir(), 'imagebuild-ca-test-'))
  return {
    path: (...names) => join(root, ...names),
    [Symbol.asyncDispose]: () => rm(root, { recursive: true, force: true }),
  }
}

export async function somePublicKey(comment = 'somebody'): Promise<string> {
  return (await generateKeyPair(comment)).publicKey
}

/** Runs TypeScript in a process of its own; its `authority` is that module. */
export async function otherProcess(script: string, ...args: string[]): Promise<string> {
  return (await promisify(execFile)(process.execPath, nodeArguments(script, args))).stdout
}

export function startProcess(script: string, ...args: string[]) {
  return spawn(process.execPath, nodeArguments(script, args), { stdio: ['ignore', 'pipe', 'inherit'] })
}

function nodeArguments(script: string, args: string[]): string[] {
  const module = new URL('../../../src/ssh/ca/authority.ts', import.meta.url).href
  const head = `import * as authority from '${module}'; const args = process.argv.slice(1);`
  return ['--input-type=module', '-e', `${head}\n${script}`, ...args]
}

const ASKPASS = new URL('../../../src/ssh/ca/askpass.sh', import.meta.url).pathname

/** An ssh-agent of our own, which this process and what it starts talk to. */
export async function startAgent(
  socket: string,
): Promise<Disposable & { add(file: string, passphrase?: string): void }> {
  const child = spawn('ssh-agent', ['-D', '-a', socket], { stdio: ['ignore', 'pipe', 'ignore'] })
  await new Promise((resolve) => child.stdout.once('data', resolve))
  vi.stubEnv('SSH_AUTH_SOCK', socket)
  return {
    add(file, passphrase = '') {
      const answer = {
        SSH_ASKPASS: ASKPASS,
        SSH_ASKPASS_REQUIRE: 'force',
        IMAGEBUILD_CA_PASSPHRASE: passphrase,
      }
      execFileSync('ssh-add', ['-q', file], { stdio: 'pipe', env: { ...process.env, ...answer } })
    },
    [Symbol.dispose]() {
      child.kill()
      vi.unstubAllEnvs()
    },
  }
}
