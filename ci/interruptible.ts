/** What `work` gives, or the signal's reason at once: libraries that wait for a limit do not hear of it. */
export async function interruptible<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  const { promise, reject } = Promise.withResolvers<never>()
  const interrupt = () => reject(signal.reason)
  signal.addEventListener('abort', interrupt, { once: true })
  if (signal.aborted) interrupt()
  try {
    return await Promise.race([work, promise])
  } finally {
    signal.removeEventListener('abort', interrupt)
  }
}
