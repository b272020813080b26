/**
 * Gives a chunk's memory back at once. Left to the garbage collector, chunks of a long stream lie around by the hundred,
 * and more of them on a busy machine, where it comes late. Only for a chunk that is not read any more; one that shares
 * its memory with others stays.
 */
export function freeMemory(chunk: Uint8Array): void {
  const { buffer } = chunk
  if (buffer instanceof ArrayBuffer && chunk.byteLength === buffer.byteLength) buffer.transfer(0)
}
