import type { Command, Option } from 'commander'
import type { Invocation } from './invocation.ts'

/** Commands about the versions of an image: which there are, which one counts, which go. */

export function declareVersions(
  command: (declaration: string, description: string) => Command,
  invocation: Invocation,
  option: (flags: string, description: string) => Option,
): void {
  const target = () => option('-t, --target <name>', 'target in imagebuild.yaml')

  command(
    'history',
    'versions of an image, the newest first: which is current, which were, who has proven them',
  )
    .argument('<image>', 'name of an image')
    .addOption(target())
    .addOption(option('--json', 'as JSON').default(false))
    .action(async (image: string, options) =>
      (await import('./commands/history.ts')).history(invocation, image, options),
    )

  command('promote', 'make a version the current one; ends what a rollback holds')
    .argument('<image@version>', 'name@<version> or name@previous')
    .addOption(target())
    .action(async (wanted: string, options) =>
      (await import('./commands/promote.ts')).promoteCommand(invocation, wanted, options),
    )

  command('rollback', 'make the version before the current one current again, and hold it there')
    .argument('<image>', 'name of an image')
    .addOption(target())
    .action(async (image: string, options) =>
      (await import('./commands/promote.ts')).rollbackCommand(invocation, image, options),
    )

  command('prune', 'remove what interrupted builds have left behind, and versions beyond template.keep')
    .addOption(target())
    .addOption(option('--dry-run', 'only say what would be removed, and what would be spared').default(false))
    .addOption(option('--kept', 'also what --on-error keep has kept').default(false))
    .action(async (options) => (await import('./commands/prune.ts')).pruneCommand(invocation, options))
}
