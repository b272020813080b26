import { Command, CommanderError, Option } from 'commander'
import { asImagebuildError, ImagebuildError } from '../core/errors.ts'
import { commandName, withConfig } from './called.ts'
import { renderFailure } from './failure.ts'
import { explainFolder } from './folders.ts'
import type { Invocation } from './invocation.ts'
import { guardOutput, print, tell, tellStyled } from './output.ts'
import { declareCi, positiveNumber } from './program-ci.ts'
import { declareHelp } from './program-help.ts'
import { declareLab } from './program-lab.ts'
import { declareSshCa } from './program-ssh-ca.ts'
import { declareVersions } from './program-versions.ts'

/**
 * All commands and options, and nothing that they do: each loads its module when it is called, so that quick
 * commands stay quick. Every option can be given as IMAGEBUILD_<NAME> too.
 */

const target = () => option('-t, --target <name>', 'target in imagebuild.yaml')

function option(flags: string, description: string): Option {
  const made = new Option(flags, description)
  const variable = `IMAGEBUILD_${made.name().replaceAll('-', '_').toUpperCase()}`
  const takesValue = made.required || made.optional
  // For commander a flag is set as soon as its variable exists, whatever the variable says.
  const off = takesValue ? /^$/ : /^(0|false|no|off|)$/i
  return off.test(process.env[variable] ?? ' ') ? made : made.env(variable)
}

export function createProgram(invocation: Invocation): Command {
  const name = commandName()
  const program = new Command(name)
    .description('Golden images for Proxmox VE as code.')
    .version(`imagebuild ${invocation.version}`, '-V, --version')
    .addOption(option('--config <file>', 'imagebuild.yaml; looked for upward from here when missing'))
    .addOption(option('--debug', 'show stack traces of errors').default(false))
    .hook('preAction', (root) => {
      Object.assign(invocation, root.opts())
      withConfig(root.getOptionValueSource('config') === 'cli' ? invocation.config : undefined)
    })
    .exitOverride()
    .configureOutput({ writeOut: print, writeErr: tell })
    .showSuggestionAfterError()
    .showHelpAfterError(`  → ${name} --help lists commands, ${name} help <command> its options`)
    .addHelpText(
      'after',
      `\nFirst steps:\n  ${name} run debian-base      build the image that is shipped\n  ${name} validate             check all definitions, offline\n  ${name} list                 templates and their versions`,
    )

  const command = (declaration: string, description: string) =>
    program.command(declaration).description(description).exitOverride()

  command('run', 'build images whose definition, source or parent has changed')
    .argument('[image...]', "names of images, or patterns in quotes: 'debian-*'")
    .addOption(target())
    .addOption(option('--all', 'all images').default(false))
    .addOption(option('--force', 'rebuild although nothing changed; look upstream again').default(false))
    .addOption(option('--no-cache', 'bootstrap anew instead of taking systems from the cache'))
    .addOption(
      option('--on-error <what>', 'keep the guest of a failed build to look into')
        .choices(['cleanup', 'keep'])
        .default('cleanup'),
    )
    .addOption(
      option('--verify <what>', 'examine booted clones of a new template before it counts')
        .choices(['full', 'off'])
        .default('full'),
    )
    .addOption(
      option('--wait', 'where somebody else builds an image, wait for that, instead of exit 75').default(
        false,
      ),
    )
    .addOption(
      option('--parallel <n>', 'images at once; children wait for their parents')
        .argParser(positiveNumber)
        .default(1),
    )
    .addOption(option('--json', 'events as NDJSON on stdout; the last line is the result').default(false))
    .action(async (images: string[], options) =>
      (await import('./commands/run.ts')).run(invocation, images, options),
    )

  command('plan', 'what run would do, image by image, and why; changes nothing')
    .argument('[image...]', "names of images, or patterns in quotes: 'debian-*'; all when missing")
    .addOption(target())
    .addOption(option('--explain', 'every reason, with its place and what is different').default(false))
    .addOption(option('--detailed-exitcode', 'exit 2 if something would be done').default(false))
    .addOption(
      option('--verify <what>', 'as for run: off does without examining clones')
        .choices(['full', 'off'])
        .default('full'),
    )
    .addOption(option('--json', 'as JSON').default(false))
    .action(async (images: string[], options) =>
      (await import('./commands/plan.ts')).plan(invocation, images, options),
    )

  command('validate', 'check imagebuild.yaml and all definitions, offline')
    .argument('[image...]', 'names of images; all when missing')
    .addOption(option('--json', 'mistakes as JSON on stdout').default(false))
    .action(async (images: string[], options) =>
      (await import('./commands/validate.ts')).validate(invocation, images, options),
    )

  command('fmt', 'bring definitions into their canonical form')
    .argument('[file...]', 'YAML files; all of the project when missing')
    .addOption(option('--check', 'change nothing; exit 1 if something would change').default(false))
    .action(async (files: string[], options) =>
      (await import('./commands/fmt.ts')).fmt(invocation, files, options),
    )

  command('show', 'one image: MAC and IP addresses of its temporary guests, its templates')
    .argument('<image>', 'with --verify also name@previous or name@<version>')
    .addOption(target())
    .addOption(option('--verify', 'the report of how clones of its template were examined').default(false))
    .addOption(option('--hardening', 'what its profile does, and what it leaves out').default(false))
    .addOption(option('--json', 'as JSON').default(false))
    .action(async (image: string, options) => {
      if (options.verify)
        return (await import('./commands/show-verify.ts')).showVerify(invocation, image, options)
      if (options.hardening)
        return (await import('./commands/show-hardening.ts')).showHardening(invocation, image, options)
      return (await import('./commands/show.ts')).show(invocation, image, options)
    })

  command('list', 'templates of the target')
    .addOption(target())
    .addOption(option('--json', 'as JSON').default(false))
    .action(async (options) => (await import('./commands/list.ts')).list(invocation, options))

  command('resolve', 'print the VMID of a template, alone')
    .argument('[image]', 'name, name@current, name@previous or name@<version>')
    .addOption(target())
    .addOption(option('--node <name>', 'on this node'))
    .addOption(option('--locked', 'by imagebuild.lock.json, without asking the cluster').default(false))
    .addOption(
      option(
        '--terraform-external',
        'as a program of Terraform’s data source external: query on stdin',
      ).default(false),
    )
    .action(async (image: string | undefined, options, self: Command) => {
      if (options.terraformExternal && image === undefined) {
        return options.locked
          ? (await import('./commands/locked.ts')).resolveLockedForTerraform(invocation, options)
          : (await import('./commands/resolve.ts')).resolveForTerraform(invocation, options)
      }
      if (!options.terraformExternal && image !== undefined) {
        return options.locked
          ? (await import('./commands/locked.ts')).resolveLocked(invocation, image, options)
          : (await import('./commands/resolve.ts')).resolve(invocation, image, options)
      }
      self.error('error: give the name of an image, or --terraform-external with a query on stdin')
    })

  command('outputs', 'current templates of all images, for other tools')
    .addOption(target())
    .addOption(
      option('--format <name>', 'json, tfvars, ansible or env')
        .choices(['json', 'tfvars', 'ansible', 'env'])
        .default('json'),
    )
    .addOption(option('--locked', 'by imagebuild.lock.json, without asking the cluster').default(false))
    .action(async (options) =>
      options.locked
        ? (await import('./commands/locked.ts')).outputsLocked(invocation, options)
        : (await import('./commands/outputs.ts')).outputs(invocation, options),
    )

  command(
    'diff',
    'what differs between two templates of an image: packages, sshd, sysctl, ports, setuid files, files of layers, size',
  )
    .argument('<image>', 'name of an image')
    .argument('[before]', 'previous, current or a version; previous when missing')
    .argument('[after]', 'the same; current when missing')
    .addOption(target())
    .addOption(option('--node <name>', 'on this node'))
    .addOption(option('--exit-code', 'exit 1 if something differs').default(false))
    .addOption(option('--json', 'as JSON').default(false))
    .action(async (image: string, before: string | undefined, after: string | undefined, options) =>
      (await import('./commands/diff.ts')).diff(invocation, image, [before, after], options),
    )

  declareVersions(command, invocation, option)

  command('schema', 'print the JSON Schema of a file of definitions')
    .argument('<file>', 'image or imagebuild')
    .action(async (file: string) => (await import('./commands/schema.ts')).schema(file))

  declareCi(command('ci', 'rebuilds on a schedule: what is stale, and why'), invocation, option)
  declareLab(command('lab', 'the embedded Proxmox-compatible lab'), invocation, option)
  declareHelp(program, command)
  declareSshCa(command('ssh-ca', 'SSH certificates for people and hosts'), invocation, option)

  return program
}

/** Runs one command line; gives the exit code. */
export async function runProgram(argv: readonly string[], version: string): Promise<number> {
  const controller = new AbortController()
  const interrupt = (code: 'interrupted' | 'terminated') => () => {
    // The second one ends at once: whoever presses it means it.
    if (controller.signal.aborted) process.exit(code === 'interrupted' ? 130 : 143)
    invocation.say?.(
      'stopping: temporary guests and files are being removed; once more leaves at once, and them to `imagebuild prune`',
    )
    controller.abort(new ImagebuildError({ code, what: code }))
  }
  const onInt = interrupt('interrupted')
  const onTerm = interrupt('terminated')
  process.on('SIGINT', onInt)
  process.on('SIGTERM', onTerm)
  // A terminal that is closed ends a build like Ctrl-C does: cleaned up.
  process.on('SIGHUP', onTerm)
  const invocation: Invocation = {
    version,
    secrets: guardOutput(),
    signal: controller.signal,
    say: (message) => tell(`\n${message}\n`),
    debug: false,
  }
  try {
    await createProgram(invocation).parseAsync([...argv], { from: 'user' })
    return Number(process.exitCode ?? 0)
  } catch (thrown) {
    if (thrown instanceof CommanderError) return exitCodeOf(thrown)
    const error = asImagebuildError(
      controller.signal.aborted
        ? controller.signal.reason
        : explainFolder((await invocation.explain?.(thrown)) ?? thrown),
    )
    tellStyled(renderFailure(error, invocation))
    return error.exitCode
  } finally {
    process.off('SIGINT', onInt)
    process.off('SIGTERM', onTerm)
    process.off('SIGHUP', onTerm)
  }
}

/** Help and version are no errors; everything else that commander finds is wrong usage. */
function exitCodeOf(error: CommanderError): number {
  return error.exitCode === 0 ? 0 : 64
}
