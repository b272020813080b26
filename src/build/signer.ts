import { asImagebuildError } from '../core/errors.ts'
import type { Certificates } from '../plan/certificates.ts'
import { openAuthority } from '../ssh/ca/authority.ts'
import { isInAgent, isLocked, withoutComment } from '../ssh/ca/keygen.ts'
import { windowOf } from '../ssh/ca/validity.ts'
import type { Build } from './context.ts'
import type { Signer } from './verify/signer.ts'

/**
 * Who can sign a login for one of the CAs that an image trusts: the target's, where its keys are at hand and need no
 * passphrase, or ssh-agent holds them. Without one, that login is not proven, and reports say so; no reason to fail a build.
 */
export async function signerOf(build: Build, { authorities }: Certificates): Promise<Signer | undefined> {
  const { signer: folder } = build.place.ssh
  if (folder === undefined || authorities.length === 0) return undefined
  const without = (why: string) => {
    const message = `the login by a certificate of the configured CA will not be verified: ${why}`
    build.emit({ type: 'warning', image: build.image.name, message })
    return undefined
  }
  try {
    const authority = await openAuthority(folder, { signal: build.signal })
    const pair = authority.pairs.find(({ user }) =>
      authorities.some((line) => withoutComment(line) === withoutComment(user.publicKey)),
    )
    if (pair === undefined) return without(`the image does not trust the CA in ${folder}`)
    const { privateFile, publicKey } = pair.user
    const isOpen = privateFile !== undefined && !(await isLocked(privateFile, build.signal))
    if (!isOpen && !(await isInAgent(publicKey, build.signal))) {
      return without(
        privateFile === undefined
          ? `no ssh-agent here holds the key of the CA in ${folder}`
          : `the keys in ${folder} have a passphrase; \`ssh-add ${privateFile}\` lets ssh-agent sign`,
      )
    }
    return {
      sign: ({ validity, ...request }) => {
        // Judged by the clock of a clone, which is Proxmox's: this machine's may be minutes from it.
        const window = windowOf(validity, build.pve.clock.date())
        return authority.signUser({ ...request, validity: window, generation: pair.generation })
      },
    }
  } catch (error) {
    build.signal.throwIfAborted()
    return without(asImagebuildError(error).message)
  }
}
