import { expect, test } from 'vitest'
import { ConsoleRecorder } from '../../src/build/console.ts'
import type { Pve } from '../../src/pve/client.ts'
import type { GuestConsole, NoConsole } from '../../src/pve/console.ts'
import type { Guest } from '../../src/pve/guest.ts'
import { MemoryProxmox } from '../pve/memory-proxmox.ts'

/** A guest whose console opens, or does not, as it is told. */
function recording(open: () => Promise<GuestConsole | NoConsole>) {
  const lines: string[] = []
  const client = new MemoryProxmox().client()
  const pve: Pve = { ...client, withSignal: () => pve, openConsole: open }
  // Nothing of it is looked at by a console that is told what to say.
  const recorder = new ConsoleRecorder(pve, {} as Guest, (line) => lines.push(line))
  return { recorder, lines }
}

/** Says this, and stays open until it is disposed of. */
function saying(...texts: string[]): GuestConsole {
  const closed = Promise.withResolvers<void>()
  return {
    send: () => {},
    [Symbol.dispose]: () => closed.resolve(),
    async *[Symbol.asyncIterator]() {
      yield* texts
      await closed.promise
    },
  }
}

test('what a guest has said, to the prompt where it stands still', async () => {
  const text = ['EFI stub: Loaded initrd\r\nYou are in emerg', 'ency mode\r\nPress Enter: ']
  const { recorder, lines } = recording(async () => saying(...text))
  const said = ['EFI stub: Loaded initrd', 'You are in emergency mode', 'Press Enter: ']
  await expect.poll(() => recorder.recorded).toEqual({ lines: said })
  expect(lines).toEqual(said.slice(0, 2))
  recorder[Symbol.dispose]()
})

test('of two hundred lines the last', async () => {
  const { recorder } = recording(async () => saying(...Array.from({ length: 300 }, (_, n) => `${n}\n`)))
  const last = Array.from({ length: 200 }, (_, n) => String(n + 100))
  await expect.poll(() => recorder.recorded).toEqual({ lines: last })
})

test.each([
  ['it does not open', async () => Promise.reject(new Error('it does not open'))],
  ['a token lacks VM.Console', async () => ({ unavailable: 'a token lacks VM.Console' })],
])('why nobody could listen: %s', async (why, open) => {
  const { recorder } = recording(open)
  await expect.poll(() => recorder.recorded).toEqual({ unavailable: why })
})

test('nobody waits for a console that takes its time to open', () => {
  const { recorder } = recording(() => new Promise(() => {}))
  expect(recorder.recorded).toEqual({ lines: [] })
})
