import type { Command, Option } from 'commander'
import { commandName } from './called.ts'
import type { Invocation } from './invocation.ts'

/** `imagebuild ci`: its commands and options. */

export function declareCi(
  ci: Command,
  invocation: Invocation,
  option: (flags: string, description: string) => Option,
): void {
  const name = commandName()
  const images = [
    '[image...]',
    "names of images, or patterns in quotes: 'debian-*'; all when missing",
  ] as const
  const target = () => option('-t, --target <name>', 'target in imagebuild.yaml')

  ci.command('plan')
    .description('which images are stale, and why; changes nothing, and starts nothing')
    .argument(...images)
    .addOption(target())
    .addOption(option('--detailed-exitcode', 'exit 2 if anything is stale or unknown').default(false))
    .addOption(option('--json', 'as JSON').default(false))
    .addOption(
      option('--matrix', 'one line of JSON: a job for each family, for GitHub’s dynamic matrix')
        .default(false)
        .conflicts('json'),
    )
    .exitOverride()
    .action(async (names: string[], options) =>
      (await import('./commands/ci-plan.ts')).ciPlan(invocation, names, options),
    )

  ci.addHelpText(
    'after',
    `\nExamples:\n  ${name} ci plan                          what is stale, and why\n  ${name} ci plan --detailed-exitcode      the same for a script: 2 where anything is stale or unknown\n  ${name} ci plan --matrix                 one job for each family of images`,
  )
}
