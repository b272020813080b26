import { type Command, InvalidArgumentError, type Option } from 'commander'
import { HOST_VALIDITY, USER_VALIDITY } from '../ssh/ca/validity.ts'
import type { Invocation } from './invocation.ts'

/** `imagebuild ssh-ca`: its commands and options. */

export function declareSshCa(
  sshCa: Command,
  invocation: Invocation,
  option: (flags: string, description: string) => Option,
): void {
  const folder = () => option('--folder <path>', 'folder of the CA, for you alone').default('./ssh-ca')
  const reference = () =>
    option('--passphrase <reference>', 'env:NAME, file:/path or cmd:command; asked for on a terminal')
  const several = (flags: string, description: string) =>
    option(flags, `${description}; can be repeated`).argParser((value: string, before: string[] = []) => [
      ...before,
      value,
    ])
  const generation = () =>
    option('--generation <n>', 'sign with older keys, for those who do not trust the new ones yet').argParser(
      wholeNumber,
    )
  const json = () => option('--json', 'as JSON').default(false)
  const command = (declaration: string, description: string) =>
    sshCa.command(declaration).description(description).exitOverride().addOption(folder())
  const commands = async () => await import('./commands/ssh-ca.ts')

  const makesKeys = (declaration: string, description: string) =>
    command(declaration, description)
      .addOption(reference())
      .addOption(option('--no-passphrase', 'keys that whoever gets their files can use'))
      .addOption(
        several(
          '--agent-key <key>',
          'fingerprint or comment of a key in ssh-agent: first the user CA, then the host CA',
        ),
      )

  makesKeys('init', 'make a user CA and a host CA').action(async (options) =>
    (await commands()).init(invocation, options),
  )
  makesKeys(
    'rotate',
    'make new keys, which sign from now on; the old ones stay trusted until retired',
  ).action(async (options) => (await commands()).rotate(invocation, options))
  command('retire', 'trust old keys no more, and delete their private halves')
    .argument('<generation>', 'number from `ssh-ca show`', wholeNumber)
    .action(async (number: number, options) => (await commands()).retire(invocation, number, options))

  command('sign-user', 'certify a public key for logging in')
    .argument('<file>', 'public key')
    .addOption(
      several(
        '--principal <names>',
        'whom servers let in as it: user names, or what their principals files say',
      ),
    )
    .addOption(option('--identity <text>', 'what sshd logs at each login; the key’s comment when missing'))
    .addOption(option('--validity <duration>', 'from now on (s, m, h, d, w)').default(USER_VALIDITY))
    .addOption(several('--option <option>', 'as ssh-keygen -O: force-command=…, source-address=…, no-pty'))
    .addOption(out())
    .addOption(generation())
    .addOption(reference())
    .action(async (file: string, options) => (await commands()).signUserKey(invocation, file, options))
  command('sign-host', 'certify a public host key')
    .argument('<file>', 'public key')
    .addOption(
      several('--hostname <names>', 'names and addresses of the host, as people type them after ssh'),
    )
    .addOption(option('--validity <duration>', 'from now on (s, m, h, d, w)').default(HOST_VALIDITY))
    .addOption(out())
    .addOption(generation())
    .addOption(reference())
    .action(async (file: string, options) => (await commands()).signHostKey(invocation, file, options))
  command('revoke', 'refuse a certificate, or a key with all its certificates')
    .argument('<what>', 'certificate file, public key file or serial number')
    .addOption(option('--reason <text>', 'for the log'))
    .action(async (what: string, options) => (await commands()).revokeKey(invocation, what, options))

  command('show', 'keys of the CA, certificates, and what was revoked')
    .addOption(json())
    .action(async (options) => (await import('./commands/ssh-ca-show.ts')).show(invocation, options))
  command('public', 'public keys of the user CA, as sshd’s TrustedUserCAKeys wants them').action(
    async (options) => (await commands()).publicKeys(invocation, options),
  )
  command('known-hosts', 'lines for known_hosts, by which ssh believes host certificates')
    .addOption(
      several('--domain <pattern>', 'hosts that the CA may speak for, such as *.example; all when missing'),
    )
    .action(async (options) => (await commands()).knownHosts(invocation, options))
  command('host-seed', 'a certified host key for a machine to be, private half included')
    .argument('[hostname]', 'read from a query on stdin when missing (terraform)')
    .addOption(several('--alias <names>', 'other names and addresses of the host'))
    .addOption(option('--validity <duration>', 'of its certificate (s, m, h, d, w)').default(HOST_VALIDITY))
    .addOption(
      option('--format <name>', 'cloud-init: user-data; terraform: answer of an external data source')
        .choices(['cloud-init', 'terraform'])
        .default('cloud-init'),
    )
    .addOption(option('--out <file>', 'where it goes, with mode 0600; - or missing: stdout'))
    .addOption(option('--force', 'print the private key on a terminal too').default(false))
    .addOption(reference())
    .action(async (hostname: string | undefined, options) =>
      (await import('./commands/ssh-ca-host-seed.ts')).hostSeed(invocation, hostname, options),
    )

  function out(): Option {
    return option('--out <file>', 'where the certificate goes; - is stdout; <key>-cert.pub when missing')
  }
}

function wholeNumber(text: string): number {
  if (!/^[1-9]\d*$/.test(text)) throw new InvalidArgumentError('must be a number from 1 on')
  return Number(text)
}
