/** A way to ask a machine: the clone by SSH; in tests, this one. */
export interface Examiner {
  /**
   * Runs a script by /bin/sh. A non-zero exit is a result, not an error.
   * @throws ImagebuildError where the machine cannot be asked any more; the signal's reason
   */
  run(script: string, options: AskOptions): Promise<Answered>
}

export interface AskOptions {
  asRoot: boolean
  /** seen in no process's arguments */
  env?: Readonly<Record<string, string>>
  seconds: number
  signal?: AbortSignal
}

export interface Answered {
  exitCode: number
  stdout: string
  stderr: string
}

/** Reads what a script tells: a JSON object a line, its texts in base64 wherever they come from the machine. */
export function readLines<T>(stdout: string): T[] {
  return stdout.split('\n').flatMap((line) => (line.startsWith('{') ? [JSON.parse(line) as T] : []))
}

export function decode(base64: string): string {
  return Buffer.from(base64, 'base64').toString('utf8')
}
