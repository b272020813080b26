import { asImagebuildError } from '../core/errors.ts'
import type { Certificates } from '../plan/certificates.ts'
import { openAuthority } from '../ssh/ca/authority.ts'
import { agentKeys, isLocked } from '../ssh/ca/keygen.ts'
import type { Build } from './context.ts'
import type { Signer } from './verify/signer.ts'

/**
 * Who can sign a login for one of the CAs that an image trusts: the target's, where its keys are at hand and need no
 * passphrase. Without one, that login is not proven, and reports say so; no reason to fail a build.
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
      authorities.some((line) => keyOf(line) === keyOf(user.publicKey)),
    )
    if (pair === undefined) return without(`the image does not trust the CA in ${folder}`)
    const { privateFile } = pair.user
    if (privateFile === undefined) {
      const held = await agentKeys('the login cannot be proven', build.signal)
      if (!held.some((line) => keyOf(line) === keyOf(pair.user.publicKey)))
        return without(`no ssh-agent here holds the key of the CA in ${folder}`)
    } else if (await isLocked(privateFile, build.signal))
      return without(`the keys in ${folder} have a passphrase; ones that ssh-agent holds need none here`)
    return { sign: (request) => authority.signUser({ ...request, generation: pair.generation }) }
  } catch (error) {
    build.signal.throwIfAborted()
    return without(asImagebuildError(error).message)
  }
}

/** Without its comment. */
function keyOf(line: string): string {
  return line.trim().split(/\s+/).slice(0, 2).join(' ')
}
