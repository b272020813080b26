import { describe, expect, test } from 'vitest'
import type { ImageSpec, VmSpec } from '../../src/definition/spec.ts'
import { explainRebuild } from '../../src/plan/explain.ts'
import { digestOf, type Json } from '../../src/plan/identity.ts'
import { makePlan, sourceRequest } from '../../src/plan/plan.ts'
import type { Reason } from '../../src/plan/reason.ts'
import { type PlanRecord, recordPlan, shortRecord } from '../../src/plan/record.ts'
import { type Note, renderNote } from '../../src/pve/marks.ts'
import { bytes, fileLayer, imageSpec, lxcSpec, packagesLayer, shellLayer } from './spec.ts'

const KEY = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGPKSUTyz1HwHReFVvD5obVsALAgJRNarH4TRpNePnAS home'
const PLACES = {
  image: { file: 'images/web/image.yaml', line: 1, column: 1 },
  source: { file: 'images/web/image.yaml', line: 3, column: 9 },
}

interface Circumstances {
  identity?: string
  version?: string
  fallback?: boolean
  authorities?: readonly string[]
}

function record(image: ImageSpec, { identity, version, fallback, authorities }: Circumstances = {}) {
  const source = {
    request: sourceRequest(image.source),
    identity: identity ?? 'sha512:abc',
    version: version ?? '20260101-1',
    fallback: fallback ?? false,
  }
  const plan = makePlan(image, { sourceIdentity: source.identity, ssh: { authorities: authorities ?? [] } })
  return recordPlan(plan, { version: '20260102.1', tool: '0.1.0', source, root: '/project' })
}

const noteOf = ({ digest, source, version }: PlanRecord): Pick<Note, 'digest' | 'source' | 'version'> => ({
  digest,
  source,
  version,
})

function explain(before: PlanRecord, now: PlanRecord): Reason[] {
  // As it comes back from its file.
  const stored = JSON.parse(JSON.stringify(before)) as PlanRecord
  return explainRebuild({ note: noteOf(before), record: stored }, now, PLACES)
}

/** By another runner: the note is all there is. */
function explainByNote(before: PlanRecord, now: PlanRecord): Reason[] {
  const made = shortRecord(before)
  return explainRebuild({ note: { ...noteOf(before), ...(made && { made }) } }, now, PLACES)
}

const at = (line: number, file = '/project/images/web/image.yaml') => ({ where: { file, line, column: 5 } })
const LAYERS = [
  packagesLayer(at(10)),
  fileLayer(at(12)),
  shellLayer({ ...at(14), script: bytes('one\ntwo\nthree\n') }),
]
const BEFORE = imageSpec({ layers: LAYERS })
const texts = (reasons: readonly Reason[]) => reasons.map(({ text }) => text)

describe('what a layer says', () => {
  test('a line of a script: which layer, where, and the lines around it', () => {
    const layers = [...LAYERS.slice(0, 2), shellLayer({ ...at(15), script: bytes('one\n2\nthree\n') })]
    const reasons = explain(record(BEFORE), record(imageSpec({ layers })))
    expect(reasons).toEqual([
      {
        kind: 'definition',
        subject: 'shell: true',
        text: 'layer 3/3 changed: shell: true',
        where: { file: 'images/web/image.yaml', line: 15, column: 5 },
        diff: ' \n one\n-two\n+2\n three',
      },
    ])
  })

  test('a package', () => {
    const layers = [packagesLayer({ ...at(10), install: ['nginx', 'curl'] }), ...LAYERS.slice(1)]
    expect(explain(record(BEFORE), record(imageSpec({ layers })))).toMatchObject([
      { text: 'layer 1/3 changed: packages: nginx', diff: ' install nginx\n+install curl' },
    ])
  })

  test('mode, owner, user and variables are told like lines', () => {
    const [first, , third] = LAYERS as [(typeof LAYERS)[0], unknown, ReturnType<typeof shellLayer>]
    const layers = [first, fileLayer({ ...at(12), mode: '0600' }), { ...third, env: { VERSION: '2' } }]
    const reasons = explain(record(BEFORE), record(imageSpec({ layers })))
    expect(reasons.map(({ diff }) => diff)).toEqual([
      expect.stringContaining('-mode 0644\n+mode 0600'),
      expect.stringContaining('+env VERSION=2'),
    ])
  })

  test('a new one and one that is gone leave the others what they are', () => {
    const extra = shellLayer({ ...at(13), name: 'extra', script: bytes('extra\n') })
    const [packages, file, shell] = LAYERS as [(typeof LAYERS)[0], (typeof LAYERS)[0], (typeof LAYERS)[0]]
    expect(
      texts(explain(record(BEFORE), record(imageSpec({ layers: [packages, file, extra, shell] })))),
    ).toEqual(['layer 3/4 is new: extra'])
    expect(texts(explain(record(BEFORE), record(imageSpec({ layers: [packages, shell] }))))).toEqual([
      'a layer is gone: file: /etc/motd',
    ])
  })

  test('another file is not the same file in another shape', () => {
    const layers = [
      LAYERS[0],
      fileLayer({ ...at(12), name: 'file: /etc/issue', path: '/etc/issue' }),
      LAYERS[2],
    ]
    const now = record(imageSpec({ layers: layers as VmSpec['layers'] }))
    expect(texts(explain(record(BEFORE), now)).sort()).toEqual([
      'a layer is gone: file: /etc/motd',
      'layer 2/3 is new: file: /etc/issue',
    ])
  })

  test('what is no text, or too long, is told by its size', () => {
    for (const content of [new Uint8Array([0, 1, 2]), new Uint8Array([0xff]), bytes('x'.repeat(40_000))]) {
      const layers = [LAYERS[0], fileLayer({ ...at(12), content }), LAYERS[2]] as VmSpec['layers']
      const [reason] = explain(record(BEFORE), record(imageSpec({ layers })))
      expect(reason?.diff).toMatch(/\+\(\d+ bytes, sha256:[0-9a-f]{64}\)/)
    }
  })

  test('two texts with nothing in common are not compared to the end, which would take minutes', () => {
    const text = (word: string) =>
      bytes(Array.from({ length: 4000 }, (_, line) => `${word}${line}\n`).join(''))
    const spec = (word: string) => imageSpec({ layers: [shellLayer({ script: text(word) })] })
    const reasons = explain(record(spec('a')), record(spec('b')))
    expect(reasons).toHaveLength(1)
    expect(reasons[0]?.diff).toBeUndefined()
  })
})

describe('what is not a layer', () => {
  const { hardware } = BEFORE
  test.each<[string, Partial<VmSpec>, string[]]>([
    ['hardware', { hardware: { ...hardware, memory: 2048 } }, ['hardware.memory: 1024 → 2048']],
    [
      'a template’s tags',
      { template: { ...BEFORE.template, tags: ['web'] } },
      ['template.tags: [] → ["web"]'],
    ],
    [
      'architecture',
      { source: { ...BEFORE.source, architecture: 'arm64' } },
      ['source changed: release debian/12 amd64 → release debian/12 arm64', 'architecture: amd64 → arm64'],
    ],
  ])('%s', (_what, change, expected) => {
    const identity = change.source === undefined ? {} : { identity: 'sha512:other' }
    const reasons = explain(record(BEFORE), record(imageSpec({ layers: LAYERS, ...change }), identity))
    expect(texts(reasons)).toEqual(expected)
    expect(reasons.every(({ where }) => where?.file === 'images/web/image.yaml')).toBe(true)
  })

  test('a fragment of cloud-config, as a difference', () => {
    const fragment = (timezone: string) => [{ name: 'base', config: { timezone }, where: at(1).where }]
    const [reason] = explain(
      record(imageSpec({ cloudInit: fragment('UTC') })),
      record(imageSpec({ cloudInit: fragment('Europe/Berlin') })),
    )
    expect(reason?.text).toBe('cloud-config base changed')
    expect(reason?.diff).toContain('-  "timezone": "UTC"\n+  "timezone": "Europe/Berlin"')
  })

  test('a container’s features and privileges', () => {
    const reasons = explain(
      record(lxcSpec()),
      record(lxcSpec({ unprivileged: false, features: { nesting: true } })),
    )
    expect(texts(reasons).sort()).toEqual(['features.nesting: false → true', 'unprivileged: true → false'])
  })

  test('the recipe of imagebuild itself', () => {
    const before = record(BEFORE)
    const older = { ...before, digest: 'sha256:old', start: { ...before.start, recipe: 1 } } as PlanRecord
    expect(explain(older, before)).toMatchObject([{ kind: 'recipe' }])
    expect(explainByNote(older, before)).toMatchObject([{ kind: 'recipe' }])
  })
})

describe('the source', () => {
  test('a newer release of the same name', () => {
    const now = record(BEFORE, { identity: 'sha512:new', version: '20260201-7' })
    const expected = [
      {
        ...{ kind: 'source', subject: 'release debian/12 amd64', where: PLACES.source },
        text: 'release debian/12 amd64: 20260101-1 → 20260201-7',
      },
    ]
    expect(explain(record(BEFORE), now)).toEqual(expected)
    // All of that is in the note.
    expect(explainByNote(record(BEFORE), now)).toEqual(expected)
  })

  test('another request is a change of the definition', () => {
    const source = { ...BEFORE.source, kind: 'release', release: 'debian/13', fallback: true } as const
    const now = record(imageSpec({ layers: LAYERS, source }), { identity: 'sha512:new' })
    expect(explain(record(BEFORE), now)).toMatchObject([
      { kind: 'definition', text: 'source changed: release debian/12 amd64 → release debian/13 amd64' },
    ])
  })

  test('the cloud image is there again, or out of reach', () => {
    const fallen = record(BEFORE, { identity: 'bootstrap', version: 'bookworm', fallback: true })
    expect(texts(explain(fallen, record(BEFORE)))[0]).toMatch(/made from packages, now there is 20260101-1/)
    expect(texts(explain(record(BEFORE), fallen))[0]).toMatch(/20260101-1 is out of reach/)
  })

  test('a parent: from version to version, or to the one that is built first', () => {
    const source = { kind: 'image', image: 'base', architecture: 'amd64', where: at(3).where } as const
    const child = imageSpec({ layers: LAYERS, source })
    const before = record(child, { identity: 'sha256:a', version: '20260101.1' })
    expect(before.parent).toEqual({ image: 'base', version: '20260101.1', digest: 'sha256:a' })
    const now = (version: string) => record(child, { identity: 'sha256:b', version })
    expect(explain(before, now('20260202.1'))).toMatchObject([
      { kind: 'parent', text: 'its parent base changed: 20260101.1 → 20260202.1' },
    ])
    expect(texts(explain(before, now('')))[0]).toBe('its parent base is built anew first')
  })
})

describe('certificates and hardening', () => {
  test('a CA is told by its fingerprint, and the file that names it by its lines', () => {
    const reasons = explain(record(BEFORE), record(BEFORE, { authorities: [KEY] }))
    expect(reasons[0]).toMatchObject({
      kind: 'certificates',
      text: 'the SSH user CAs changed',
      diff: expect.stringMatching(/^\+SHA256:[A-Za-z0-9+/]{43}$/),
    })
    expect(new Set(reasons.map(({ kind }) => kind))).toEqual(new Set(['certificates']))
  })

  const hardened = (change: Partial<VmSpec['hardening']>) =>
    imageSpec({ layers: LAYERS, hardening: { ...BEFORE.hardening, profile: 'baseline', ...change } })

  test('a profile: by its items, not by the scripts that they come to', () => {
    const reasons = explain(record(BEFORE), record(hardened({})))
    expect(texts(reasons)[0]).toBe('hardening: profile none → baseline')
    expect(texts(reasons)[1]).toMatch(/^hardening: also .*sshd-/)
    expect(reasons.every(({ kind, diff }) => kind === 'hardening' && diff === undefined)).toBe(true)
  })

  test('an item that is excepted, with the reason', () => {
    const [id = ''] = Object.keys(record(hardened({})).items)
    const reasons = explain(record(hardened({})), record(hardened({ except: { [id]: 'not here' } })))
    expect(texts(reasons)).toContain(`hardening: without ${id}: not here`)
  })

  test('an item that another version of imagebuild does otherwise', () => {
    const now = record(hardened({}))
    const [id = ''] = Object.keys(now.items)
    const older = { ...now, digest: 'sha256:old', items: { ...now.items, [id]: 'sha256:x' } } as PlanRecord
    expect(texts(explain(older, now))).toEqual([`hardening: ${id} in another way`])
  })
})

describe('without the record', () => {
  test('which layers, but not how', () => {
    const layers = [...LAYERS.slice(0, 2), shellLayer({ ...at(15), script: bytes('other\n') })]
    expect(explainByNote(record(BEFORE), record(imageSpec({ layers })))).toEqual([
      {
        kind: 'definition',
        subject: 'shell: true',
        text: 'layer 3/3 is new or changed: shell: true',
        where: { file: 'images/web/image.yaml', line: 15, column: 5 },
      },
    ])
    const fewer = record(imageSpec({ layers: LAYERS.slice(1) }))
    expect(texts(explainByNote(record(BEFORE), fewer))).toEqual(['a layer is gone'])
  })

  test('a layer is found although the source is another one too', () => {
    const layers = [...LAYERS.slice(0, 2), shellLayer({ ...at(15), script: bytes('other\n') })]
    const now = record(imageSpec({ layers }), { identity: 'sha512:new', version: '20260201-7' })
    expect(texts(explainByNote(record(BEFORE), now))).toEqual([
      'release debian/12 amd64: 20260101-1 → 20260201-7',
      'layer 3/3 is new or changed: shell: true',
    ])
  })

  test('which part', () => {
    const now = record(imageSpec({ layers: LAYERS, hardware: { ...BEFORE.hardware, memory: 2048 } }))
    expect(texts(explainByNote(record(BEFORE), now))).toEqual(['hardware changed'])
  })

  test('a note of an older version knows of nothing', () => {
    const before = record(BEFORE)
    const reasons = explainRebuild(
      { note: noteOf(before) },
      record(imageSpec({ layers: LAYERS.slice(1) })),
      PLACES,
    )
    expect(reasons).toMatchObject([{ kind: 'unknown', text: expect.stringContaining('nobody has recorded') }])
  })
})

test('the same digest needs no reason', () => {
  expect(explain(record(BEFORE), record(BEFORE))).toEqual([])
})

describe('a record', () => {
  const all = imageSpec({
    layers: [...LAYERS, shellLayer({ secrets: { TOKEN: 'env:SECRET_NAME' }, env: { A: 'b' } })],
    hardening: { ...BEFORE.hardening, profile: 'baseline' },
    cloudInit: [{ name: 'base', config: { timezone: 'UTC' }, where: at(1).where }],
  })

  test('holds all that went into the digest: it can be computed anew from it', () => {
    for (const spec of [all, BEFORE, lxcSpec()]) {
      const stored = JSON.parse(JSON.stringify(record(spec, { authorities: [KEY] }))) as PlanRecord
      let chain = digestOf(stored.start)
      for (const { identity, digest } of stored.layers) {
        chain = digestOf({ after: chain, layer: identity })
        expect(chain).toBe(digest)
      }
      expect(digestOf({ layers: chain, ...stored.result } as Json)).toBe(stored.digest)
    }
  })

  test('names secrets, but neither their values nor where they come from', () => {
    const text = JSON.stringify(record(all))
    expect(text).toContain('secret TOKEN')
    expect(text).not.toContain('SECRET_NAME')
  })

  test('is the same in another checkout', () => {
    const moved = JSON.parse(JSON.stringify(BEFORE).replaceAll('/project/', '/elsewhere/')) as typeof BEFORE
    const layers = moved.layers.map((layer, index) => ({ ...BEFORE.layers[index], where: layer.where }))
    const plan = makePlan({ ...BEFORE, layers } as VmSpec, {
      sourceIdentity: 'sha512:abc',
      ssh: { authorities: [] },
    })
    const { source } = record(BEFORE)
    expect(recordPlan(plan, { version: '20260102.1', tool: '0.1.0', source, root: '/elsewhere' })).toEqual(
      record(BEFORE),
    )
  })
})

describe('what a note keeps of it', () => {
  const many = (count: number) =>
    record(
      imageSpec({
        layers: Array.from({ length: count }, (_, n) => shellLayer({ script: bytes(`echo ${n}\n`) })),
        hardening: { ...BEFORE.hardening, profile: 'cis-l1' },
      }),
      { authorities: [KEY] },
    )

  /** As large as notes get. */
  const note = (made: Note['made']): Note => ({
    schema: 1,
    vmid: 999_999_999,
    namespace: 'n'.repeat(40),
    image: 'i'.repeat(60),
    kind: 'lxc',
    tool: '10.10.10',
    run: '0123abcd',
    version: '20260101.100',
    digest: `sha256:${'a'.repeat(64)}`,
    source: {
      request: `bootstrap ${'x'.repeat(600)}`,
      identity: `sha512:${'a'.repeat(128)}`,
      version: '20260101-1234',
      fallback: true,
    },
    built: new Date(0).toISOString(),
    previous: 999_999_999,
    verify: {
      at: new Date(0).toISOString(),
      passed: 1000,
      failed: 1000,
      skipped: 1000,
      left: 1000,
      certificates: 'not configured',
      inside: 'not verified',
      checks: `sha256:${'a'.repeat(64)}`,
    },
    archive: { file: 'f'.repeat(90), volid: 'v'.repeat(120), sha256: 'a'.repeat(64) },
    ...(made && { made }),
    artifacts: Object.fromEntries(
      ['verify.json', 'manifest.json', 'sbom.cdx.json', 'plan.json'].map((name) => [name, 'a'.repeat(64)]),
    ),
  })

  test('fits with 100 layers', () => {
    const made = shortRecord(many(100))
    expect(made?.layers.length).toBeGreaterThanOrEqual(100)
    expect(() => renderNote(note(made))).not.toThrow()
  })

  test('is dropped where it would not fit', () => {
    expect(shortRecord(many(400))).toBeUndefined()
    for (let count = 100; count < 400; count += 25)
      expect(() => renderNote(note(shortRecord(many(count))))).not.toThrow()
  })
})
