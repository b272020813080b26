import { styleText } from 'node:util'
import { mapStrings, printable, printableJson, printableStyled } from '../core/printable.ts'
import { SecretRegistry } from '../core/secrets.ts'
import { asCalled } from './called.ts'
import { type Annotation, annotation, isOnGitHub, mask, withoutWorkflowCommands } from './github-log.ts'

/**
 * The only ways to stdout and stderr. Whatever is handed over here is made printable, has no secret in it, and is no
 * command to a CI that reads the log.
 */

let secrets = new SecretRegistry()

/** From now on, what these secrets know is taken out of all that is printed; GitHub is told of each where the user wants that. */
export function guardOutput(registry = new SecretRegistry(announce)): SecretRegistry {
  secrets = registry
  return registry
}

function announce(value: string): void {
  mask(value, workflowCommands)
}

/** A result, for people or programs, on stdout. */
export function print(text: string): void {
  process.stdout.write(harmless(secrets.redact(printable(text))))
}

/** A result that has colours of our own. Its parts from outside were made printable before they got them. */
export function printStyled(text: string): void {
  process.stdout.write(harmless(secrets.redact(printableStyled(text))))
}

/** A result as JSON: one line, or several for people who read it. */
export function printJson(value: unknown, lines: 'one line' | 'indented' = 'indented'): void {
  process.stdout.write(jsonText(value, lines === 'indented' ? 2 : undefined))
}

/** What was asked for has a secret in it, such as a private key, and is printed as it is. */
export function printSecret(text: string): void {
  process.stdout.write(text)
}

/**
 * For what will be prefixed, joined or cut before it is printed: a secret that is broken over two lines is found only as long
 * as nothing stands between them. A list of strings is taken for lines that follow upon each other.
 */
export function withoutSecrets<T>(value: T): T {
  return secrets.redactDeep(value)
}

/** Says something between the results, on stderr. */
export function tell(text: string): void {
  process.stderr.write(harmless(secrets.redact(printable(asCalled(text)))))
}

/** The same with colours of our own. */
export function tellStyled(text: string): void {
  process.stderr.write(harmless(secrets.redact(printableStyled(asCalled(text)))))
}

/** Lines of events, whose bus has made them printable. */
export const eventLines = {
  write: (text: string) => process.stderr.write(harmless(text)),
}

/** Events as NDJSON. */
export const eventJson = {
  write: (text: string) => process.stdout.write(inJson(text)),
}

/** What GitHub Actions shall do with the log: commands of our own, on stderr, where no result is. */
export const workflowCommands = {
  write: (text: string) => process.stderr.write(text),
}

/** Mistakes and doubts, shown beside their lines by GitHub and Forgejo. */
export function annotate(places: readonly Annotation[]): void {
  if (!isOnGitHub()) return
  for (const one of places)
    workflowCommands.write(annotation(withoutSecrets(mapStrings(one, (text) => printable(asCalled(text))))))
}

/** Colours, where that output shows them. */
export function style(
  on: 'stdout' | 'stderr',
  format: Parameters<typeof styleText>[0],
  text: string,
): string {
  return styleText(format, text, { stream: process[on] })
}

/** For what steers the terminal itself: questions, and lines that are painted again. */
export function terminal(): NodeJS.WriteStream {
  return process.stderr
}

function jsonText(value: unknown, indent: number | undefined): string {
  return inJson(`${JSON.stringify(secrets.redactDeep(plainOf(value)), undefined, indent)}\n`)
}

/** As JSON has it: without what is undefined, and with what `toJSON` says. */
function plainOf(value: unknown): unknown {
  return JSON.parse(JSON.stringify(value) ?? 'null')
}

function harmless(text: string): string {
  return isOnGitHub() ? withoutWorkflowCommands(text) : text
}

/** A line of JSON never begins with `::`; the older form of a command may stand anywhere. */
function inJson(text: string): string {
  const json = printableJson(text)
  return isOnGitHub() ? json.replaceAll('##[', '#\\u0023[') : json
}
