import { randomInt } from 'node:crypto'
import { connect, type Socket } from 'node:net'

/** Says that whatever was half received so far is void, and begins an answer to guest-sync-delimited. */
const SENTINEL = 0xff

/** Seconds that an agent which has its port open may take to answer. */
const SYNC_SECONDS = 5

/** Commands that are answered by an error or not at all (qemu-ga-ref: "success-response: false"). */
const UNANSWERED = new Set([
  'guest-shutdown',
  'guest-suspend-disk',
  'guest-suspend-hybrid',
  'guest-suspend-ram',
])

/** Seconds in which the error would come: the agent asks the system first. */
const REFUSAL_SECONDS = 1

export const AGENT_SILENT = 'QEMU guest agent is not running'

/**
 * Sends one command to the guest agent and gives its answer. The channel has no framing of its own and may hold
 * answers that nobody waited for, so each command begins with a synchronisation (qemu-ga-ref: guest-sync-delimited).
 * @param seconds for the answer, where there is one
 */
export async function askAgent(
  path: string,
  command: string,
  args: Record<string, unknown> | undefined,
  seconds: number,
): Promise<unknown> {
  const socket = connect(path)
  // QEMU may end at any time; what is then being waited for must not wait on.
  const closed = new Promise<never>((_, reject) =>
    socket.once('close', () => reject(new Error(AGENT_SILENT))),
  )
  closed.catch(() => undefined)
  socket.on('error', () => undefined)
  const within = <T>(seconds: number, answer: Promise<T>) =>
    Promise.race([answer, closed, late(seconds, socket)])
  try {
    await within(SYNC_SECONDS, new Promise<void>((resolve) => socket.once('connect', resolve)))
    const lines = answers(socket)
    const id = randomInt(2 ** 31)
    socket.write(Buffer.of(SENTINEL))
    socket.write(`${JSON.stringify({ execute: 'guest-sync-delimited', arguments: { id } })}\n`)
    for (;;) {
      const reply = await within(SYNC_SECONDS, lines.next())
      if (reply.return === id) break
    }
    await within(
      SYNC_SECONDS,
      write(socket, `${JSON.stringify({ execute: command, ...(args && { arguments: args }) })}\n`),
    )
    if (UNANSWERED.has(command)) {
      // Hanging up at once could lose what QEMU has not read yet.
      const refusal = await within(REFUSAL_SECONDS, lines.next()).catch(() => undefined)
      if (refusal?.error) throw new Error(`Agent error: ${refusal.error.desc}`)
      return undefined
    }
    const reply = await within(seconds, lines.next())
    if (reply.error) throw new Error(`Agent error: ${reply.error.desc}`)
    return reply.return
  } finally {
    socket.destroy()
  }
}

interface Answer {
  return?: unknown
  error?: { desc: string }
}

function write(socket: Socket, text: string): Promise<void> {
  return new Promise((resolve, reject) => socket.write(text, (error) => (error ? reject(error) : resolve())))
}

/** The agent's answers, one JSON document per line; what precedes a sentinel is not one of ours. */
function answers(socket: Socket): { next(): Promise<Answer> } {
  const ready: Answer[] = []
  const waiting: ((answer: Answer) => void)[] = []
  let pending = Buffer.alloc(0)
  socket.on('data', (chunk: Buffer) => {
    pending = Buffer.concat([pending, chunk])
    for (let end = pending.indexOf(10); end >= 0; end = pending.indexOf(10)) {
      const line = pending.subarray(0, end)
      pending = pending.subarray(end + 1)
      const text = line.subarray(line.lastIndexOf(SENTINEL) + 1).toString()
      try {
        const answer = JSON.parse(text) as Answer
        const next = waiting.shift()
        if (next) next(answer)
        else ready.push(answer)
      } catch {
        // The rest of an answer to somebody who left.
      }
    }
  })
  return {
    next: () => {
      const answer = ready.shift()
      return answer ? Promise.resolve(answer) : new Promise((resolve) => waiting.push(resolve))
    },
  }
}

/** Rejects after that time, unless the connection has ended before. */
function late(seconds: number, socket: Socket): Promise<never> {
  const over = Promise.withResolvers<never>()
  over.promise.catch(() => undefined)
  const timer = setTimeout(() => over.reject(new Error(AGENT_SILENT)), seconds * 1000)
  socket.once('close', () => clearTimeout(timer))
  return over.promise
}
