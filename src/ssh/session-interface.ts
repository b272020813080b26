import type { CommandOptions } from './command.ts'
import type { UploadOptions } from './files.ts'

/** What can be done with a guest once we are in. */

export interface RunOptions extends CommandOptions {
  /** told each line as it comes */
  onLine?(stream: 'stdout' | 'stderr', line: string): void
}

export interface RunResult {
  /** 128 + n if signal n ended the command */
  code: number
  /** its last MiB, under a line that says how much is left out */
  stdout: string
  stderr: string
}

export interface DownloadOptions {
  /** as root */
  sudo?: boolean
  /** default TRANSFER_SECONDS */
  seconds?: number
  signal?: AbortSignal
}

export interface RebootOptions {
  /** for all of it */
  seconds: number
  signal?: AbortSignal
  onAttempt?(n: number, reason: string): void
}

export interface Session extends AsyncDisposable {
  /**
   * Runs a command as `sh -c` would. A non-zero exit is a result, not an error.
   * @throws ImagebuildError `build_failed` if the connection is lost or the deadline passes; the signal's reason
   */
  run(command: string, options: RunOptions): Promise<RunResult>
  /**
   * Runs a command whose standard output is data of any size; what takes it may make the guest wait. A non-zero exit
   * is a result, not an error.
   * @throws as `run`, and what `onData` rejects with
   */
  stream(
    command: string,
    onData: (chunk: Buffer) => void | Promise<void>,
    options: CommandOptions,
  ): Promise<Omit<RunResult, 'stdout'>>
  /**
   * Writes a file: complete or not at all, its missing parent directories made (0755).
   * @param source the bytes, or the path of a local file
   * @throws ImagebuildError `build_failed`
   */
  upload(source: Uint8Array | string, remotePath: string, options?: UploadOptions): Promise<void>
  /**
   * Reads a file.
   * @throws ImagebuildError `build_failed` if it is not there or cannot be read
   */
  download(remotePath: string, options?: DownloadOptions): Promise<Buffer>
  /**
   * Reboots the guest and logs in again, known to be new by its boot_id (random(4)).
   * @throws ImagebuildError `build_failed` if it does not come back
   */
  reboot(options: RebootOptions): Promise<void>
  /**
   * Logs in anew and ends the old connection: proves that what was done to sshd lets us in.
   * @throws ImagebuildError `build_failed` if it does not; the old connection goes on then
   */
  reconnect(options: { seconds: number; signal?: AbortSignal }): Promise<void>
  /** resolves when the connection dies; going down for `reboot` and the end of the session are no deaths */
  readonly lost: Promise<Error>
}
