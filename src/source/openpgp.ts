import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { ImagebuildError } from '../core/errors.ts'
import { installLine } from './requirements.ts'

/** Ubuntu's "UEC Image Automatic Signing Key": https://wiki.ubuntu.com/SecurityTeam/FAQ */
export const UBUNTU_CLOUD_IMAGE_KEY = 'D2EB44626FDDC30B513D5BB71A5D6C4C7DB87C81'

/** The keyring with that key alone, as the package ubuntu-keyring carries it. */
export const UBUNTU_KEYRING = join(import.meta.dirname, 'keys/ubuntu-cloud-images.gpg')

/** Binary OpenPGP public keys, or the path of a file with them. */
export type Keyring = string | Uint8Array

/** RFC 9580, 9.5: what gpgv calls MD5, SHA-1 and RIPEMD-160, which nobody should sign with any more. */
const WEAK_HASHES = ['1', '2', '3']

/**
 * Checks a detached signature with gpgv: some key of `keyring` must have made a good one over `data`.
 * @throws ImagebuildError `build_failed` if it is not good; `prerequisite_missing` without gpgv
 */
export async function verifySignature(
  { data, signature, keyring, name }: { data: Buffer; signature: Buffer; keyring: string; name: string },
  signal: AbortSignal,
): Promise<void> {
  await withFolder(async (folder) => {
    const signatureFile = join(folder, 'signature')
    await writeFile(signatureFile, signature)
    const { exitCode, status, stderr } = await gpgv(folder, [keyring], [signatureFile, '-'], data, signal)
    if (exitCode !== 0 || !/^\[GNUPG:\] VALIDSIG /m.test(status)) throw notGood(name, status, stderr)
  })
}

/**
 * What was signed of a clear-signed message (RFC 9580, 7): nothing that stands before or after it. A distribution that
 * changes its key signs with the old and the new one, so one good signature is enough, as for apt, and a bad one too many.
 * @throws ImagebuildError `build_failed` if it is not good; `prerequisite_missing` without gpgv
 */
export async function readClearSigned(
  { message, keyrings, name }: { message: Buffer; keyrings: readonly Keyring[]; name: string },
  signal: AbortSignal,
): Promise<string> {
  return withFolder(async (folder) => {
    const output = join(folder, 'signed')
    const { status, stderr } = await gpgv(folder, keyrings, ['--output', output, '-'], message, signal)
    // Expired and revoked keys are told as EXPKEYSIG and REVKEYSIG, and then as VALIDSIG all the same.
    const signatures = status.split(/^\[GNUPG:\] NEWSIG\b.*$/m).slice(1)
    const good = signatures.filter((lines) => {
      const hash = /^\[GNUPG:\] VALIDSIG (?:\S+ ){7}(\d+) /m.exec(lines)?.[1]
      return /^\[GNUPG:\] GOODSIG /m.test(lines) && hash !== undefined && !WEAK_HASHES.includes(hash)
    })
    if (good.length === 0 || /^\[GNUPG:\] BADSIG /m.test(status)) throw notGood(name, status, stderr)
    return readFile(output, 'utf8')
  })
}

async function withFolder<T>(work: (folder: string) => Promise<T>): Promise<T> {
  const folder = await mkdtemp(join(tmpdir(), 'imagebuild-signature-'))
  try {
    return await work(folder)
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

async function fileOf(keyring: Keyring, path: string): Promise<string> {
  if (typeof keyring === 'string') return keyring
  await writeFile(path, keyring)
  return path
}

async function gpgv(
  folder: string,
  keyrings: readonly Keyring[],
  args: readonly string[],
  input: Buffer,
  signal: AbortSignal,
): Promise<{ exitCode: number | undefined; status: string; stderr: string }> {
  const files = await Promise.all(
    keyrings.map((keyring, index) => fileOf(keyring, join(folder, `keyring-${index}`))),
  )
  // The names of releases are known without checking anything.
  const { execa } = await import('execa')
  const { exitCode, stderr, stdout, code, shortMessage } = await execa(
    'gpgv',
    ['--homedir', folder, '--status-fd', '1', ...files.flatMap((file) => ['--keyring', file]), ...args],
    { input, cancelSignal: signal, reject: false, env: { LC_ALL: 'C.UTF-8' } },
  )
  signal.throwIfAborted()
  if (code === 'ENOENT') {
    throw new ImagebuildError({
      code: 'prerequisite_missing',
      what: 'checking a signature needs the command gpgv, which is not installed',
      next: installLine('gpgv'),
    })
  }
  return { exitCode, status: stdout, stderr: stderr || shortMessage || '' }
}

function notGood(name: string, status: string, stderr: string): ImagebuildError {
  const has = (...keywords: string[]) =>
    new RegExp(`^\\[GNUPG:\\] (${keywords.join('|')}) `, 'm').test(status)
  return new ImagebuildError({
    code: 'build_failed',
    what: `the signature of ${name} is not good`,
    why: has('BADSIG')
      ? 'the list was changed after it was signed'
      : has('EXPKEYSIG', 'REVKEYSIG')
        ? 'it was made with a key that has expired or was revoked'
        : has('NO_PUBKEY', 'ERRSIG')
          ? 'it was made with another key than the pinned one'
          : has('VALIDSIG')
            ? 'it was made with a hash that is broken (MD5, SHA-1)'
            : stderr || 'there is no valid signature in it',
    output: stderr.split('\n').filter(Boolean),
    next: 'do not use this download; if it comes from a mirror, try the original server',
  })
}
