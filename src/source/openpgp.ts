import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { ImagebuildError } from '../core/errors.ts'
import { installLine } from './requirements.ts'

/** Ubuntu's "UEC Image Automatic Signing Key": https://wiki.ubuntu.com/SecurityTeam/FAQ */
export const UBUNTU_CLOUD_IMAGE_KEY = 'D2EB44626FDDC30B513D5BB71A5D6C4C7DB87C81'

/** The keyring with that key alone, as the package ubuntu-keyring carries it. */
export const UBUNTU_KEYRING = join(import.meta.dirname, 'keys/ubuntu-cloud-images.gpg')

/**
 * Checks a detached signature with gpgv: some key of `keyring` must have made a good one over `data`.
 * @throws ImagebuildError `build_failed` if it is not good; `prerequisite_missing` without gpgv
 */
export async function verifySignature(
  { data, signature, keyring, name }: { data: Buffer; signature: Buffer; keyring: string; name: string },
  signal: AbortSignal,
): Promise<void> {
  // The names of releases are known without checking anything.
  const { execa } = await import('execa')
  const folder = await mkdtemp(join(tmpdir(), 'imagebuild-signature-'))
  try {
    const signatureFile = join(folder, 'signature')
    await writeFile(signatureFile, signature)
    const { exitCode, stderr, stdout, code, shortMessage } = await execa(
      'gpgv',
      ['--homedir', folder, '--status-fd', '1', '--keyring', keyring, signatureFile, '-'],
      { input: data, cancelSignal: signal, reject: false, env: { LC_ALL: 'C.UTF-8' } },
    )
    signal.throwIfAborted()
    if (code === 'ENOENT') {
      throw new ImagebuildError({
        code: 'prerequisite_missing',
        what: 'checking a signature needs the command gpgv, which is not installed',
        next: installLine('gpgv'),
      })
    }
    if (exitCode === 0 && /^\[GNUPG:\] VALIDSIG /m.test(stdout)) return
    throw new ImagebuildError({
      code: 'build_failed',
      what: `the signature of ${name} is not good`,
      why: /^\[GNUPG:\] (NO_PUBKEY|ERRSIG)/m.test(stdout)
        ? 'it was made with another key than the pinned one'
        : /^\[GNUPG:\] BADSIG/m.test(stdout)
          ? 'the list was changed after it was signed'
          : stderr || shortMessage || 'there is no valid signature in it',
      output: stderr.split('\n').filter(Boolean),
      next: 'do not use this download; if it comes from a mirror, try the original server',
    })
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}
