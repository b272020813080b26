/** Holds what a lab lets pass as time, from `close` until `open`; open at first. */
export function gate() {
  let closed: PromiseWithResolvers<void> | undefined
  return {
    pause: async (_seconds: number, signal: AbortSignal) => {
      if (closed === undefined || signal.aborted) return
      const aborted = new Promise<void>((resolve) =>
        signal.addEventListener('abort', () => resolve(), { once: true }),
      )
      await Promise.race([closed.promise, aborted])
    },
    close: () => {
      closed = Promise.withResolvers()
    },
    open: () => {
      closed?.resolve()
      closed = undefined
    },
  }
}
