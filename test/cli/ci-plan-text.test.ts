import { expect, test } from 'vitest'
import { formatStates, statesAsJson } from '../../src/cli/ci-plan-text.ts'
import type { ImageState, StaleReason } from '../../src/plan/staleness.ts'

const security = (name: string): StaleReason => ({
  ...{ kind: 'security', subject: name, text: `${name} 1 → 2 (trixie-security)`, action: 'refresh' },
})

const image = (name: string, change: Partial<ImageState>): ImageState => ({
  ...{ image: name, state: 'fresh', action: 'nothing', reasons: [], digest: 'sha256:a' },
  templates: [{ node: 'pve', vmid: 9000, name, version: '20261130.1', digest: 'sha256:a' }],
  ...change,
})

const failures = { count: 3, reasons: '0', at: '2026-11-30T00:00:00Z' }
const STATES = [
  image('web', {}),
  image('debian-base', {
    ...{ state: 'stale', action: 'refresh' },
    reasons: [
      security('openssl\x1b[2J'),
      {
        ...{ kind: 'definition', subject: 'x', text: 'layer 1/2 changed: shell: true', action: 'build' },
        where: { file: 'images/debian-base/image.yaml', line: 7, column: 5 },
      },
      security('zlib1g'),
    ],
  }),
  image('db', { state: 'held', reasons: [security('openssl')] }),
  image('mail', { state: 'paused', note: { failures } as NonNullable<ImageState['note']> }),
]

test('a line for each image, and its reasons by their kinds; nothing of them steers the terminal', () => {
  expect(formatStates(STATES, process.cwd())).toBe(`\
web          fresh    20261130.1
debian-base  stale    to be built, with all packages upgraded
    definition  layer 1/2 changed: shell: true  images/debian-base/image.yaml:7
    security    openssl 1 → 2 (trixie-security)
                zlib1g 1 → 2 (trixie-security)
db           held     rolled back to 20261130.1; \`imagebuild promote\` or \`imagebuild run db --force\` ends that
    security    openssl 1 → 2 (trixie-security)
mail         paused   3 builds in a row failed for these reasons; \`imagebuild ci resume mail\` ends that
`)
})

test('of many reasons the first of each kind; JSON has all', () => {
  const reasons = Array.from({ length: 25 }, (_, index) => security(`package-${index}`))
  const states = [image('web', { state: 'stale', action: 'refresh', reasons })]
  const lines = formatStates(states, process.cwd()).trimEnd().split('\n')
  expect(lines).toHaveLength(22)
  expect(lines.at(-1)).toBe('                … and 5 more')
  const json = statesAsJson(states, { target: 'home', families: [], suites: {}, warnings: [] }, new Map())
  expect(json).toEqual({
    ...{ schema: 1, target: 'home', families: [], suites: {}, warnings: [] },
    images: [
      {
        ...{ image: 'web', state: 'stale', action: 'refresh', reasons, digest: 'sha256:a' },
        templates: states[0]?.templates,
      },
    ],
  })
})
