/**
 * Aborted by SIGINT and SIGTERM, after which the benchmark cleans up. The listeners stay: as soon as nobody listens
 * any more, execa ends the process at once.
 */
export function interruptSignal(): AbortSignal {
  const stop = new AbortController()
  for (const name of ['SIGINT', 'SIGTERM'] as const) {
    process.on(name, () => stop.abort(new Error(`ended by ${name}`)))
  }
  return stop.signal
}
