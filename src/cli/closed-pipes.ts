/**
 * A reader that has gone (`imagebuild show … | head`) is no failure: what is still said is dropped, and the command
 * ends as it would have, also a build, whose result lies in Proxmox and in its log. Any other error of an output, such as a
 * full disk below a redirection, is said where that is possible, and makes the exit code 1.
 */
export function endQuietly(
  out: NodeJS.WritableStream = process.stdout,
  err: NodeJS.WritableStream = process.stderr,
): void {
  out.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'EPIPE') return
    process.exitCode = 1
    err.write(`error: the result cannot be written to stdout: ${error.message}\n`)
  })
  err.on('error', () => undefined)
}
