import { mkdtemp, rm } from 'node:fs/promises'
import { createServer, type Server, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { askAgent } from '../../src/lab/guest-agent.ts'

let dir: string
let server: Server

interface Request {
  execute: string
  arguments?: { id?: number }
}

/** A guest's end of the channel. */
async function agent(answer: (request: Request, socket: Socket) => void): Promise<string> {
  const path = join(dir, 'qga')
  server = createServer((socket) => {
    socket.on('error', () => undefined)
    socket.on('data', (chunk) => {
      for (const line of chunk.toString('latin1').replaceAll('\xff', '').split('\n')) {
        if (line !== '') answer(JSON.parse(line) as Request, socket)
      }
    })
  })
  await new Promise<void>((resolve) => server.listen(path, resolve))
  return path
}

const synchronised = (request: Request, socket: Socket, before = '') => {
  socket.write(Buffer.from(`${before}\xff`, 'latin1'))
  socket.write(`{"return": ${request.arguments?.id}}\n`)
}

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'imagebuild-agent-'))
})
afterEach(async () => {
  server.close()
  await rm(dir, { recursive: true, force: true })
})

/** that an answer may take */
const SECONDS = 5

test('skips what an earlier client has left in the channel, and joins split answers', async () => {
  const path = await agent((request, socket) => {
    if (request.execute === 'guest-sync-delimited') {
      return synchronised(request, socket, '{"return": {"half":\n{"return": 1}\n{"cut')
    }
    socket.write(`{"return": {"name": "${request.execute}`)
    setTimeout(() => socket.write(Buffer.from(' ü"}}\n')), 20)
  })
  expect(await askAgent(path, 'guest-info', undefined, SECONDS)).toEqual({ name: 'guest-info ü' })
})

test('repeats the agent’s refusal', async () => {
  const path = await agent((request, socket) => {
    if (request.execute === 'guest-sync-delimited') synchronised(request, socket)
    else socket.write('{"error": {"class": "CommandNotFound", "desc": "no such command"}}\n')
  })
  await expect(askAgent(path, 'guest-x', undefined, SECONDS)).rejects.toThrow('Agent error: no such command')
})

test('does not wait on when the machine ends, or was never there', async () => {
  const path = await agent((_, socket) => socket.destroy())
  await expect(askAgent(path, 'guest-ping', undefined, SECONDS)).rejects.toThrow(
    'QEMU guest agent is not running',
  )
  await expect(askAgent(join(dir, 'none'), 'guest-ping', undefined, SECONDS)).rejects.toThrow(
    'is not running',
  )
})

test('takes the end of the machine as the answer to a shutdown', async () => {
  const path = await agent((request, socket) => {
    if (request.execute === 'guest-sync-delimited') synchronised(request, socket)
    else socket.destroy()
  })
  const asked = askAgent(path, 'guest-shutdown', { mode: 'powerdown' }, SECONDS)
  expect(await asked).toBeUndefined()
})

test('a shutdown that is obeyed is not answered, and nobody waits long for it', async () => {
  const path = await agent((request, socket) => {
    if (request.execute === 'guest-sync-delimited') synchronised(request, socket)
  })
  expect(await askAgent(path, 'guest-suspend-ram', undefined, 60)).toBeUndefined()
})
