import { type Command, InvalidArgumentError, type Option } from 'commander'
import type { Invocation } from './invocation.ts'

/** `imagebuild lab`: its commands and options. */

export function declareLab(
  lab: Command,
  invocation: Invocation,
  option: (flags: string, description: string) => Option,
): void {
  lab
    .command('start')
    .description('start it for other clients too; print endpoint, token and fingerprint')
    .addOption(option('--port <n>', 'port to listen on; any free one when missing').argParser(portNumber))
    .addOption(
      option('--pve <major>', 'the Proxmox VE to play; what it played last when missing, 9 at first').choices(
        ['8', '9'],
      ),
    )
    .addOption(option('--json', 'as JSON').default(false))
    .exitOverride()
    .action(async (options) => (await import('./commands/lab.ts')).labStart(invocation, options))
  lab
    .command('stop')
    .description('stop it and its guests; templates stay in its folder. Asks where that ends something')
    .addOption(
      option('--force', 'without asking; without a terminal, also while something is built').default(false),
    )
    .exitOverride()
    .action(async (options) => (await import('./commands/lab.ts')).labStop(invocation, options))
  lab
    .command('status')
    .description('whether it runs, and what for')
    .addOption(option('--json', 'as JSON').default(false))
    .exitOverride()
    .action(async (options) => (await import('./commands/lab.ts')).labStatus(invocation, options))
}

function portNumber(text: string): number {
  if (!/^[1-9]\d{0,4}$/.test(text) || Number(text) > 65535)
    throw new InvalidArgumentError('must be a port, 1 to 65535. Without --port any free one is taken')
  return Number(text)
}
