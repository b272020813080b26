import type { Build } from '../../src/build/context.ts'
import type { Event } from '../../src/core/events.ts'
import { SecretRegistry } from '../../src/core/secrets.ts'
import type { Claim } from '../../src/pve/claim-held.ts'
import type { CommandOptions } from '../../src/ssh/command.ts'
import type { RunOptions, RunResult, Session } from '../../src/ssh/session.ts'
import { imageSpec } from '../plan/spec.ts'
import { MemoryProxmox, PLACE, SOMEBODY, soon } from '../pve/memory-proxmox.ts'

/** A build in the middle of its work, and what it has said. */
export function aBuild(change: Partial<Build> = {}, pve = new MemoryProxmox()): Build & { events: Event[] } {
  const events: Event[] = []
  const signal = new AbortController().signal
  return {
    image: imageSpec(),
    pve: pve.client(signal),
    place: PLACE,
    namespace: 'homelab',
    options: { force: false, noCache: false, onError: 'cleanup', verify: 'off' },
    secrets: new SecretRegistry(),
    emit: (event) => events.push(event),
    signal,
    cacheDir: '/nonexistent',
    keptDir: '/nonexistent',
    ancestors: [],
    reportsDir: '/nonexistent',
    root: '/nonexistent',
    owner: SOMEBODY,
    tool: '0.1.0',
    run: 'mine',
    interrupted: signal,
    expires: soon(),
    ...change,
    events,
  }
}

/** A claim that is held, of which nothing is in the memory. */
export function aClaim(change: Partial<Claim> = {}): Claim {
  return {
    vmid: 9903,
    tags: [],
    wasGone: false,
    setTags: async () => {},
    confirm: async () => {},
    guard: (pve) => pve,
    [Symbol.asyncDispose]: async () => {},
    ...change,
  }
}

export interface Ran {
  command: string
  options: RunOptions
}

/** A guest that answers as it is told. */
export class FakeSession implements Session {
  readonly ran: Ran[] = []
  readonly uploads: { path: string; content: string; options: unknown }[] = []
  readonly lost = new Promise<Error>(() => {})
  reboots: unknown[] = []
  reconnects = 0
  answer: (ran: Ran) => Partial<RunResult> | Promise<Partial<RunResult>>

  constructor(answer: FakeSession['answer'] = () => ({})) {
    this.answer = answer
  }

  async run(command: string, options: RunOptions): Promise<RunResult> {
    const ran = { command, options }
    this.ran.push(ran)
    return { code: 0, stdout: '', stderr: '', ...(await this.answer(ran)) }
  }

  async stream(
    command: string,
    onData: (chunk: Buffer) => void | Promise<void>,
    options: CommandOptions,
  ): Promise<{ code: number; stderr: string }> {
    const { code, stdout, stderr } = await this.run(command, options)
    await onData(Buffer.from(stdout, 'latin1'))
    return { code, stderr }
  }

  async upload(source: Uint8Array | string, path: string, options?: unknown): Promise<void> {
    this.uploads.push({ path, content: Buffer.from(source as Uint8Array).toString(), options })
  }

  async download(): Promise<Buffer> {
    return Buffer.alloc(0)
  }

  async reconnect(): Promise<void> {
    this.reconnects++
  }

  async reboot(options: unknown): Promise<void> {
    this.reboots.push(options)
  }

  async [Symbol.asyncDispose](): Promise<void> {}
}
