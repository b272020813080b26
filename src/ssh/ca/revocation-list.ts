import { copyFile, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { execa } from 'execa'
import { writeDurably } from '../../core/durable-file.ts'
import { keygen } from './keygen.ts'

/** OpenSSH's key revocation list (KRL), which sshd reads as RevokedKeys and ssh as RevokedHostKeys. */

const UNREADABLE = 'the list of revoked keys cannot be read'

export interface RevocationList {
  version: number
  /** `SHA256:…` of keys that are refused, with all their certificates */
  keys: Set<string>
  /** true if this certificate is refused for its serial number */
  hasSerial(ca: string, serial: number): boolean
}

export async function createRevocationList(path: string): Promise<void> {
  await inFolder(async (folder) => {
    const file = join(folder, 'krl')
    await keygen(['-k', '-f', file, '-z', '1'], { what: 'the list of revoked keys could not be made' })
    await writeDurably(path, await readFile(file), 0o644)
  })
}

export async function readRevocationList(path: string): Promise<RevocationList> {
  const text = await keygen(['-Q', '-l', '-f', path], { what: UNREADABLE })
  const keys = new Set<string>()
  const serials = new Map<string, { first: number; last: number }[]>()
  let ca = ''
  for (const line of text.split('\n')) {
    const key = /^hash: (SHA256:\S+)/.exec(line)?.[1]
    if (key !== undefined) keys.add(key)
    ca = /^# CA key \S+ (\S+)/.exec(line)?.[1] ?? ca
    const range = /^serial: (\d+)(?:-(\d+))?$/.exec(line)
    if (!range) continue
    const [, first, last = first] = range
    serials.set(ca, [...(serials.get(ca) ?? []), { first: Number(first), last: Number(last) }])
  }
  return {
    version: Number(/^# KRL version (\d+)/m.exec(text)?.[1] ?? 0),
    keys,
    hasSerial: (of, serial) =>
      (serials.get(of) ?? []).some(({ first, last }) => first <= serial && serial <= last),
  }
}

/** What OpenSSH itself says: whether a server with this list refuses the key or certificate. */
export async function isRevoked(krl: string, line: string): Promise<boolean> {
  return await inFolder(async (folder) => {
    const file = join(folder, 'key.pub')
    await writeFile(file, `${line}\n`)
    const { exitCode, stdout } = await execa('ssh-keygen', ['-Q', '-f', krl, file], { reject: false })
    // It has one exit code for both: revoked, and not understood.
    if (exitCode !== 0 && !/: REVOKED$/m.test(stdout))
      await keygen(['-Q', '-f', krl, file], { what: UNREADABLE })
    return exitCode !== 0
  })
}

/**
 * The list with one more entry, as bytes: nothing is changed yet.
 * @param entry a public key, or a serial number of a CA
 */
export async function withRevoked(
  krl: string,
  version: number,
  entry: { publicKey: string } | { serial: number; ca: string },
): Promise<Buffer> {
  return await inFolder(async (folder) => {
    const [list, spec, ca] = ['krl', 'spec', 'ca.pub'].map((name) => join(folder, name)) as [
      string,
      string,
      string,
    ]
    await copyFile(krl, list)
    const by = 'ca' in entry ? ['-s', ca] : []
    if ('ca' in entry) await writeFile(ca, `${entry.ca}\n`)
    await writeFile(spec, 'ca' in entry ? `serial: ${entry.serial}\n` : `key: ${entry.publicKey}\n`)
    await keygen(['-k', '-u', '-f', list, ...by, '-z', `${version}`, spec], {
      what: 'it could not be revoked',
    })
    return await readFile(list)
  })
}

async function inFolder<T>(work: (folder: string) => Promise<T>): Promise<T> {
  const folder = await mkdtemp(join(tmpdir(), 'imagebuild-krl-'))
  try {
    return await work(folder)
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}
