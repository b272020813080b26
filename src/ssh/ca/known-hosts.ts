import { ImagebuildError } from '../../core/errors.ts'

/**
 * Lines for known_hosts (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT) by which ssh believes host certificates.
 * @param hostCa public key lines
 * @param domains patterns of host names that the CAs may speak for: `*.example`, `!*.other`; default all hosts
 * @throws ImagebuildError `usage`
 */
export function certAuthorityLines(hostCa: readonly string[], domains: readonly string[] = []): string {
  const wrong = domains.find((domain) => !/^[^\s,#@|]+$/.test(domain))
  if (wrong !== undefined) {
    throw new ImagebuildError({
      code: 'usage',
      what: `the domain ${JSON.stringify(wrong)} is not possible`,
      why: 'it is no pattern of known_hosts',
      next: "name each with an option of its own: --domain '*.example' --domain '10.0.0.*'",
    })
  }
  const patterns = domains.length === 0 ? '*' : domains.join(',')
  return hostCa.map((key) => `@cert-authority ${patterns} ${key}\n`).join('')
}
