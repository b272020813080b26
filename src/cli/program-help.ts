import type { Command } from 'commander'
import { closest } from '../core/did-you-mean.ts'
import { ImagebuildError } from '../core/errors.ts'

/** `imagebuild help`, also of a command within a command, and with a guess at what was meant. */

export function declareHelp(
  program: Command,
  command: (declaration: string, description: string) => Command,
): void {
  program.helpCommand(false)
  command('help', 'all commands, or the options of one')
    .argument('[command...]', 'such as: lab start')
    .action((words: string[]) => showHelp(program, words))
}

/** Help of the command that these words lead to: `lab start`. */
function showHelp(program: Command, words: readonly string[]): void {
  let command = program
  for (const [index, word] of words.entries()) {
    const names = command.commands.map((one) => one.name())
    const found = command.commands.find((one) => one.name() === word)
    if (found === undefined) {
      const before = words.slice(0, index)
      const guess = closest(word, names)
      throw new ImagebuildError({
        code: 'usage',
        what: `there is no command ${[...before, word].join(' ')}`,
        next:
          guess === undefined
            ? `${['imagebuild help', ...before].join(' ')} shows what there is`
            : `did you mean: ${['imagebuild help', ...before, guess].join(' ')}`,
      })
    }
    command = found
  }
  command.outputHelp()
}
