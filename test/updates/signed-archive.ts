import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { type Answer, serveFiles } from '../source/file-server.ts'

/** A key made for a test, with the keyring that has it alone. */
export class SigningKey implements Disposable {
  readonly #folder = mkdtempSync(join(tmpdir(), 'imagebuild-archive-'))
  readonly keyring = join(this.#folder, 'keyring.gpg')

  constructor() {
    this.#gpg('--quick-generate-key', 'Archive <archive@example.org>', 'ed25519', 'sign', 'never')
    this.#gpg('--output', this.keyring, '--export')
  }

  armored(): string {
    return this.#run(['--armor', '--export']).toString()
  }

  secret(...options: 'armor'[]): Buffer {
    return this.#run([...options.map((option) => `--${option}`), '--export-secret-keys'])
  }

  clearSign(text: string): Buffer {
    return this.#run(['--clear-sign'], text)
  }

  #gpg(...args: string[]) {
    this.#run(args)
  }

  #run(args: readonly string[], input?: string): Buffer {
    return execFileSync(
      'gpg',
      ['--homedir', this.#home(), '--batch', '--quiet', '--passphrase', '', ...args],
      {
        ...(input !== undefined && { input }),
        stdio: ['pipe', 'pipe', 'ignore'],
      },
    )
  }

  #home(): string {
    const home = join(this.#folder, 'home')
    mkdirSync(home, { recursive: true, mode: 0o700 })
    return home
  }

  [Symbol.dispose]() {
    execFileSync('gpgconf', ['--homedir', this.#home(), '--kill', 'all'])
    rmSync(this.#folder, { recursive: true, force: true })
  }
}

export interface ArchiveFacts {
  suite?: string
  /** what its Release says of itself; `stable-security` with the suite as its codename unless given */
  names?: { suite: string; codename: string }
  date?: string
  validUntil?: string
  /** further lines of the Release */
  fields?: string
  /** contents of the lists, by their place: `main/binary-amd64` */
  lists?: Record<string, string>
  packing?: 'xz' | 'gz'
  byHash?: boolean
}

export const PACKAGES = `Package: openssl
Source: openssl-src (3.5.1-1)
Version: 3.5.1-1+b1
Architecture: amd64
Description: a text
 that goes on
 Package: none

Package: tzdata
Version: 2026b-0+deb13u1
Architecture: all

Package: openssl
Version: 3.5.0-1
Architecture: amd64
`

const pack = { gz: gzipSync, xz: (text: string) => execFileSync('xz', ['--stdout'], { input: text }) }
const sha256 = (data: Buffer) => createHash('sha256').update(data).digest('hex')

/** What a server of this archive has, by path. */
export function archiveFiles(key: SigningKey, facts: ArchiveFacts = {}): Record<string, Buffer> {
  const { suite = 'trixie-security', packing = 'xz', byHash = true } = facts
  const { date = 'Sat, 28 Nov 2026  9:09:31 UTC', lists = { 'main/binary-amd64': PACKAGES } } = facts
  const { names = { suite: 'stable-security', codename: suite } } = facts
  const dists = `/debian/dists/${suite}`
  const files: Record<string, Buffer> = {}
  const digests = Object.entries(lists).map(([place, text]) => {
    const packed = pack[packing](text)
    const path = `${place}/Packages.${packing}`
    files[byHash ? `${dists}/${place}/by-hash/SHA256/${sha256(packed)}` : `${dists}/${path}`] = packed
    return ` ${sha256(packed)} ${packed.length} ${path}\n`
  })
  const release =
    `Origin: Test\nSuite: ${names.suite}\nCodename: ${names.codename}\nDate: ${date}\n` +
    `${facts.validUntil === undefined ? '' : `Valid-Until: ${facts.validUntil}\n`}` +
    `${byHash ? 'Acquire-By-Hash: yes\n' : ''}${facts.fields ?? 'Architectures: all amd64\nNo-Support-for-Architecture-all: Packages\n'}` +
    `MD5Sum:\n ${'a'.repeat(32)} 1 main/binary-amd64/Packages.${packing}\nSHA256:\n${digests.join('')}`
  return { ...files, [`${dists}/InRelease`]: key.clearSign(release) }
}

/** With an ETag, and 304 for whoever has that version. */
export function withEtag(content: Buffer): Answer {
  const etag = `"${sha256(content)}"`
  return (response, request) => {
    if (request.headers['if-none-match'] === etag) response.writeHead(304, { etag }).end()
    else response.writeHead(200, { etag }).end(content)
  }
}

export const serveArchive = (files: Record<string, Buffer>) =>
  serveFiles(Object.fromEntries(Object.entries(files).map(([path, data]) => [path, withEtag(data)])))
