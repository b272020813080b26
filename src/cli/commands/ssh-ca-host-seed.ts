import { text } from 'node:stream/consumers'
import { ImagebuildError } from '../../core/errors.ts'
import { cloudConfig } from '../../seed/cloud-config.ts'
import { type HostIdentity, hostIdentity } from '../../ssh/ca/host-identity.ts'
import { parseValidity } from '../../ssh/ca/validity.ts'
import type { Invocation } from '../invocation.ts'
import { print, printSecret } from '../output.ts'
import { openToSign, type WithPassphrase, words, writeOut } from './ssh-ca.ts'

interface HostSeedOptions extends WithPassphrase {
  alias?: string[]
  validity: string
  format: 'cloud-init' | 'terraform'
  out?: string
  force: boolean
}

/**
 * Prints a host key with its certificate for who makes the machine. It is the one command that prints a private key,
 * since cloud-init takes it from user-data.
 */
export async function hostSeed(
  invocation: Invocation,
  hostname: string | undefined,
  options: HostSeedOptions,
): Promise<void> {
  const { format, force } = options
  const out = options.out === '-' ? undefined : options.out
  if (process.stdout.isTTY && out === undefined && !force) {
    throw new ImagebuildError({
      code: 'usage',
      what: 'a private key is not printed on a terminal',
      why: 'it would stay in what scrolls back',
      next: 'have it written to a file that is yours alone: --out <file>; or give --force',
    })
  }
  const validity = parseValidity(options.validity)
  const asked = hostname === undefined ? await query(format) : { hostname, aliases: words(options.alias) }
  const authority = await openToSign(invocation, options)
  const identity = await hostIdentity(authority, { ...asked, validity, signal: invocation.signal })
  invocation.secrets.add(identity.privateKey)
  const answer = format === 'terraform' ? `${JSON.stringify(terraform(identity))}\n` : userData(identity)
  if (out === undefined) {
    printSecret(answer)
    return
  }
  await writeOut(out, answer, 0o600)
  const { hostname: name, aliases, validTo } = identity
  print(
    `${out}: host key and certificate for ${[name, ...aliases].join(', ')}, until ${validTo.toISOString()}\n`,
  )
}

/** cloud-init writes the three files and sets HostCertificate itself (cc_ssh, from 21.1 on). */
function userData({ privateKey, publicKey, certificate }: HostIdentity): string {
  return cloudConfig().sshHostKey({ privateKey, publicKey, certificate }).render()
}

/** An external data source answers with one object of strings. */
function terraform(identity: HostIdentity): Record<string, string> {
  return {
    hostname: identity.hostname,
    aliases: identity.aliases.join(','),
    ed25519_private: identity.privateKey,
    ed25519_public: identity.publicKey,
    ed25519_certificate: identity.certificate,
    valid_to: identity.validTo.toISOString(),
    cloud_config: userData(identity),
  }
}

/** What Terraform asks: `{"hostname": "web", "aliases": "web.example,192.0.2.7"}`, all of it strings. */
async function query(format: HostSeedOptions['format']): Promise<{ hostname: string; aliases: string[] }> {
  const refused = (what: string, why: string) =>
    new ImagebuildError({
      code: 'usage',
      what,
      why,
      next: 'query = { hostname = "web", aliases = "web.example,192.0.2.7" }',
    })
  if (format !== 'terraform' || process.stdin.isTTY) {
    throw new ImagebuildError({
      code: 'usage',
      what: 'no host is named',
      why: 'only --format terraform reads it from a query on stdin',
      next: 'imagebuild ssh-ca host-seed <hostname>',
    })
  }
  const written = await text(process.stdin)
  let read: unknown
  try {
    read = JSON.parse(written)
  } catch (error) {
    throw refused('the query on stdin is no JSON', (error as Error).message)
  }
  if (read === null || typeof read !== 'object' || Array.isArray(read)) {
    throw refused('the query on stdin cannot be answered', 'it is no JSON object')
  }
  for (const [key, value] of Object.entries(read)) {
    if (key !== 'hostname' && key !== 'aliases') {
      throw refused('the query on stdin cannot be answered', `${key} is unknown: it has hostname and aliases`)
    }
    if (typeof value !== 'string') {
      throw refused('the query on stdin cannot be answered', `${key} is no string`)
    }
  }
  const { hostname, aliases = '' } = read as { hostname?: string; aliases?: string }
  if (hostname === undefined || hostname === '') {
    throw refused('the query on stdin cannot be answered', 'it has no hostname')
  }
  return { hostname, aliases: aliases.trim() === '' ? [] : words([aliases]) }
}
