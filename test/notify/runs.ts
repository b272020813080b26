import { onTestFinished } from 'vitest'
import type { Event } from '../../src/core/events.ts'
import { createBus } from '../../src/core/events.ts'
import { SecretRegistry } from '../../src/core/secrets.ts'
import { ci } from '../../src/definition/ci-schema.ts'
import type { NotifyContext } from '../../src/notify/context.ts'
import type { ImageReport, RunReport } from '../../src/notify/report.ts'
import { tellEnd, tellStart } from '../../src/notify/tell.ts'

export const RUN = '123e4567-e89b-42d3-a456-426614174000'

export const image = (more: Partial<ImageReport> = {}): ImageReport => ({
  image: 'debian-base',
  outcome: 'unchanged',
  newVersion: '20261101.1',
  vmids: [{ node: 'pve1', vmid: 9003 }],
  reasons: [],
  seconds: 0,
  ...more,
})

export const built = image({
  outcome: 'built',
  oldVersion: '20261001.1',
  newVersion: '20261101.1',
  vmids: [
    { node: 'pve1', vmid: 9003 },
    { node: 'pve2', vmid: 9004 },
  ],
  reasons: ['security: openssl 3.0.16-1 → 3.0.17-1 (trixie-security)'],
  seconds: 184,
})

export const failed = image({
  image: 'web',
  outcome: 'failed',
  newVersion: '20260901.2',
  reasons: ['age: 40 days'],
  seconds: 61,
  failure: { check: 'port 80', what: 'nothing listens on port 80' },
})

export const run = (images: readonly ImageReport[], more: Partial<RunReport> = {}): RunReport => ({
  namespace: 'homelab',
  target: 'home',
  ended: new Date('2026-11-01T03:04:05Z'),
  seconds: 245,
  exitStatus: images.some(({ outcome }) => outcome === 'failed') ? 1 : 0,
  images,
  problems: [],
  ...more,
})

/** Secrets by the names that references have; gone after the test. */
export function environment(values: Record<string, string>): void {
  for (const [name, value] of Object.entries(values)) {
    process.env[name] = value
    onTestFinished(() => {
      delete process.env[name]
    })
  }
}

/** Somebody who is told; what went wrong on the way is in `warnings`, how long was waited in `waits` (milliseconds). */
export function listener(more: Partial<NotifyContext> = {}) {
  const secrets = new SecretRegistry()
  const events: Event[] = []
  const waits: number[] = []
  const ctx: NotifyContext = {
    secrets,
    emit: createBus(secrets, [(event) => void events.push(event)]),
    signal: new AbortController().signal,
    pause: async (milliseconds) => void waits.push(milliseconds),
    ...more,
  }
  return {
    waits,
    get warnings() {
      return events.map((event) => ('message' in event ? event.message : JSON.stringify(event)))
    },
    start: (written: unknown) => tellStart(ci.parse(written), RUN, ctx),
    end: (written: unknown, report: RunReport) => tellEnd(ci.parse(written), RUN, report, ctx),
  }
}
