import { isIP } from 'node:net'
import { ImagebuildError } from '../../core/errors.ts'

/** The names in a certificate: who may log in, or which hosts it stands for. */

/** @throws ImagebuildError `usage` */
export function checkPrincipals(principals: readonly string[]): string[] {
  if (principals.length === 0) {
    // OpenSSH refuses such a certificate, and long ago took it for anybody's.
    throw refused('a certificate without principals', 'it would let nobody in', 'name one: --principal')
  }
  for (const name of principals) {
    if (!/^[^\s,\p{Cc}]+$/u.test(name)) {
      throw refused(
        `the principal ${JSON.stringify(name)}`,
        'principals are words without spaces and commas',
        'name each with an option of its own: --principal alice --principal admins',
      )
    }
  }
  return [...new Set(principals)]
}

/**
 * Host names and addresses, in lower case as ssh compares them.
 * @throws ImagebuildError `usage`
 */
export function checkHostNames(names: readonly string[]): string[] {
  if (names.length === 0)
    throw refused('a certificate without host names', 'it would be for no host', 'name one')
  return [...new Set(names.map((name) => name.toLowerCase().replace(/\.$/, '')))].map((name) => {
    if (/[*?]/.test(name)) {
      throw refused(
        `the host name ${name}`,
        'whoever has this key could be any of those hosts',
        'name the hosts one by one',
      )
    }
    if (isIP(name) === 0 && !isHostName(name)) {
      throw refused(
        `the host name ${JSON.stringify(name)}`,
        'it is neither a DNS name nor an address',
        'name it as people type it after ssh, without user and port',
      )
    }
    return name
  })
}

function isHostName(name: string): boolean {
  return name.length <= 253 && /^(?!-)[a-z0-9_-]{1,63}(\.(?!-)[a-z0-9_-]{1,63})*$/i.test(name)
}

/** @throws ImagebuildError `usage` */
export function checkIdentity(identity: string): string {
  if (/^[^\p{Cc}"]{1,200}$/u.test(identity)) return identity
  throw refused(
    `the identity ${JSON.stringify(identity.slice(0, 60))}`,
    'it is a line of 1 to 200 characters without quotes, for sshd’s log',
    'give another: --identity',
  )
}

function refused(what: string, why: string, next: string): ImagebuildError {
  return new ImagebuildError({ code: 'usage', what: `${what} is not possible`, why, next })
}
