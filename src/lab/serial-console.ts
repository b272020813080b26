import { open } from 'node:fs/promises'
import { connect } from 'node:net'
import type { Duplex } from 'node:stream'

/** Bytes of the log that are given when nobody says how many. */
const TAIL_BYTES = 1 << 20

/** The end of what a serial console has said since the start of the boot; empty when there was no boot. */
export async function tail(log: string, bytes = TAIL_BYTES): Promise<string> {
  const file = await open(log).catch(() => undefined)
  if (file === undefined) return ''
  try {
    const { size } = await file.stat()
    const length = Math.min(size, bytes)
    const { buffer, bytesRead } = await file.read(Buffer.alloc(length), 0, length, size - length)
    return buffer.toString('utf8', 0, bytesRead)
  } finally {
    await file.close()
  }
}

/** The console itself, from now on. QEMU serves one at a time; the next one waits for its turn. */
export async function connectConsole(path: string): Promise<Duplex> {
  const socket = connect(path)
  await new Promise<void>((resolve, reject) => {
    socket.once('connect', resolve)
    socket.once('error', reject)
  })
  socket.on('error', () => socket.destroy())
  return socket
}
