import { shellWord } from '../core/shell-word.ts'
import { fitting } from './lab-hints.ts'

/**
 * Hints name the command as it was called, so that they can be typed as they stand: `./imagebuild`, the path of a link, and
 * with the `--config` that was given. Everything below this room says `imagebuild`, which is translated where a person reads.
 */

/** What is told apart from the project's name: `imagebuild may use`. */
export const COMMANDS = [
  ...['run', 'plan', 'validate', 'fmt', 'show', 'list', 'resolve', 'outputs', 'diff', 'history', 'promote'],
  ...['rollback', 'prune', 'schema', 'ci', 'lab', 'ssh-ca', 'help'],
] as const

const NAMED = new RegExp(`(?<![\\w./-])imagebuild (?=(?:${COMMANDS.join('|')}|--help)(?![\\w-]))`, 'g')

let called = 'imagebuild'
let options = ''

/** As whoever called it has typed it; the wrapper tells. */
export function calledAs(path: string): void {
  called = shellWord(path)
}

export function commandName(): string {
  return called
}

/** @param config the file that --config named; undefined where it did not */
export function withConfig(config: string | undefined): void {
  options = config === undefined ? '' : `--config ${shellWord(config)} `
}

/** A text for a person, with the commands in it as they are to be typed. */
export function asCalled(text: string): string {
  return fitting(text).replaceAll(NAMED, () => `${called} ${options}`)
}
