import { type Command, InvalidArgumentError, type Option } from 'commander'
import { commandName } from './called.ts'
import type { Invocation } from './invocation.ts'

/** What options that count take. */
export function positiveNumber(text: string): number {
  if (!/^[1-9]\d{0,5}$/.test(text)) throw new InvalidArgumentError('must be a whole number, 1 at least')
  return Number(text)
}

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

  ci.command('run')
    .description('builds what is stale, proves it on clones, and reports: files, pull request, messages')
    .argument(...images)
    .addOption(target())
    .addOption(option('--all', 'all images, as without names').default(false))
    .addOption(option('--dry-run', 'say what would be built and sent').default(false))
    .addOption(
      option('--result <file>', 'write what came of it, for `ci report --results <dir>`; send nothing'),
    )
    .addOption(
      option('--verify <what>', 'only full: nothing becomes current that nobody has verified')
        .choices(['full', 'off'])
        .default('full'),
    )
    .addOption(option('--wait', 'where somebody else builds an image, wait for that').default(false))
    .addOption(
      option('--parallel <n>', 'images at once; children wait for their parents')
        .argParser(positiveNumber)
        .default(1),
    )
    .addOption(option('--json', 'what came of it as JSON').default(false).conflicts('dryRun'))
    .exitOverride()
    .action(async (names: string[], options) =>
      (await import('./commands/ci-run.ts')).ciRun(invocation, names, options),
    )

  ci.command('report')
    .description('of several jobs’ results one change, one pull request, one message')
    .addOption(
      option('--results <dir>', 'folder with files of `ci run --result <file>`').makeOptionMandatory(),
    )
    .addOption(option('-t, --target <name>', 'target in imagebuild.yaml, where there is no result at all'))
    .addOption(
      option('--families <json>', 'what `ci plan --matrix` said: a family without any result is a failure'),
    )
    .addOption(option('--dry-run', 'say what would be sent; the files are written').default(false))
    .addOption(option('--json', 'all results in one, as JSON').default(false).conflicts('dryRun'))
    .exitOverride()
    .action(async (options) => (await import('./commands/ci-report.ts')).ciReport(invocation, options))

  ci.command('resume')
    .description('work on an image again that was paused after failures')
    .argument('<image>', 'name of an image')
    .addOption(target())
    .exitOverride()
    .action(async (image: string, options) =>
      (await import('./commands/ci-resume.ts')).ciResume(invocation, image, options),
    )

  ci.addHelpText(
    'after',
    `\nExamples:\n  ${name} ci plan                          what is stale, and why\n  ${name} ci plan --detailed-exitcode      the same for a script: 2 where anything is stale or unknown\n  ${name} ci plan --matrix                 one job for each family of images\n  ${name} ci run --dry-run                 what would be built and sent\n  ${name} ci run --parallel 2              build it, and report\n  ${name} ci report --results results      report for several jobs of ci run --result`,
  )
}
