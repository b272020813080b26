import { afterEach, expect, test, vi } from 'vitest'
import { formatStates } from '../../src/cli/ci-plan-text.ts'
import type { TemplateRow } from '../../src/core/events.ts'
import { type ImageState, type StaleReason, staleByAge, staleByUpdates } from '../../src/plan/staleness.ts'
import { block } from './blocks.ts'

afterEach(() => {
  vi.unstubAllEnvs()
})

const DAY = 86_400

const state = (image: string, version: string, reasons: StaleReason[]): ImageState => {
  const template: TemplateRow = { node: 'lab', vmid: 9000, name: image, version, digest: 'x' }
  const isStale = reasons.length > 0
  return {
    ...{ image, reasons, digest: 'x', templates: [template] },
    ...(isStale ? { state: 'stale', action: 'refresh' } : { state: 'fresh', action: 'nothing' }),
  }
}

const openssl = {
  ...{ package: 'openssl', architecture: 'amd64', suite: 'trixie-security', isSecurity: true },
  ...{ installed: '3.5.4-1~deb13u1', available: '3.5.4-1~deb13u2' },
  source: { name: 'openssl', installed: '3.5.4-1~deb13u1', available: '3.5.4-1~deb13u2' },
}

test('what ci plan prints looks as README has it', () => {
  vi.stubEnv('NO_COLOR', '1')
  const { text } = block('README.md', '$ ./imagebuild ci plan')
  const cve = { id: 'CVE-2026-1111', urgency: 'high' as const, fixed: openssl.available }
  const states = [
    state('debian-base', '20261028.1', [
      ...staleByAge('2026-10-28T03:00:00Z', 30 * DAY, new Date('2026-12-01T03:00:00Z')),
      ...staleByUpdates('security', [{ update: openssl, vulnerabilities: [cve] }]),
    ]),
    state('web', '20261028.1', [
      {
        ...{ kind: 'parent', subject: 'debian-base', action: 'refresh' },
        text: 'its parent debian-base is built anew first',
      },
    ]),
    state('db', '20261120.1', []),
  ]
  expect(`$ ./imagebuild ci plan\n${formatStates(states, '/')}`).toBe(text)
})
