import { freeMemory } from '../core/spent-memory.ts'
import { PENDING_LIMIT } from './raw-headers.ts'

/**
 * Passes chunks on and gives their memory back as soon as nobody can be reading them any more: what is so far behind
 * that no reader may have kept it. Left to the garbage collector, some 60 MiB of them lie around. Only for chunks that
 * are no one else's. (A reader that did keep one would fail at once, and not read what is there by then.)
 */
export async function* freeSpentChunks(chunks: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  const recent: Buffer[] = []
  let kept = 0
  for await (const chunk of chunks) {
    recent.push(chunk)
    kept += chunk.length
    while (kept > 2 * PENDING_LIMIT) {
      const spent = recent.shift() as Buffer
      kept -= spent.length
      freeMemory(spent)
    }
    yield chunk
  }
}
