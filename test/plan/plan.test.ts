import { describe, expect, test } from 'vitest'
import type { SshSpec, VmSpec } from '../../src/definition/spec.ts'
import { makePlan, sourceRequest } from '../../src/plan/plan.ts'
import { bytes, fileLayer, imageSpec, packagesLayer, shellLayer, WHERE } from './spec.ts'

const digest = (
  change: Partial<VmSpec> = {},
  sourceIdentity = 'sha512:abc',
  authorities: readonly string[] = [],
) => makePlan(imageSpec(change), { sourceIdentity, ssh: { authorities } }).digest

const CA = 'ssh-ed25519 AAAA home'
const ssh = (change: Partial<SshSpec>) => ({ ssh: { principals: {}, where: WHERE, ...change } })

test('the digest of a definition never changes by itself: everybody would rebuild everything', () => {
  expect(digest()).toMatchInlineSnapshot(
    `"sha256:2576bf328c1ce3effcc832caeccc25eeb03ef1a2bb40683b5946119a99006d6a"`,
  )
})

const CLOUD_INIT = [{ name: 'base', config: { packages: ['curl'], timezone: 'UTC' }, where: WHERE }]

describe('the digest changes with', () => {
  const spec = imageSpec()
  const cases: Record<string, Partial<VmSpec>> = {
    'one byte of a script': { layers: [shellLayer({ script: bytes('true \n') })] },
    'the user of a script': { layers: [shellLayer({ user: 'www-data' })] },
    'a plain variable': { layers: [shellLayer({ env: { VERSION: '2' } })] },
    'the name of a secret': { layers: [shellLayer({ secrets: { TOKEN: 'env:TOKEN' } })] },
    'the bytes of a file': { layers: [fileLayer({ content: bytes('hallo\n') })] },
    'the mode of a file': { layers: [fileLayer({ mode: '0600' })] },
    'the owner of a file': { layers: [fileLayer({ owner: 'www-data' })] },
    'a package': { layers: [packagesLayer({ install: ['nginx', 'curl'] })] },
    'a removed package': { layers: [packagesLayer({ remove: ['vim-tiny'] })] },
    'an upgrade': { layers: [packagesLayer({ upgrade: true })] },
    'a reboot': {
      layers: [...spec.layers, { kind: 'reboot', name: 'reboot', where: WHERE, timeoutSeconds: 1 }],
    },
    'the order of layers': { layers: [...spec.layers].reverse() },
    'a layer less': { layers: spec.layers.slice(1) },
    hardware: { hardware: { ...spec.hardware, memory: 2048 } },
    'a template’s tags': { template: { tags: ['web'], keep: 3 } },
    cloudInit: { cloudInit: CLOUD_INIT },
    architecture: { source: { ...spec.source, architecture: 'arm64' } },
  }
  const all = new Set<string>([digest()])
  test.each(Object.entries(cases))('%s', (_name, change) => {
    const changed = digest(change)
    expect(all.has(changed)).toBe(false)
    all.add(changed)
  })
  test('CAs, the definition’s or the target’s, and what they may do', () => {
    const digests = [
      digest(),
      digest({}, undefined, [CA]),
      digest({}, undefined, [CA, `${CA}2`]),
      digest(ssh({ principals: { debian: ['admin'] } }), undefined, [CA]),
      digest(ssh({ revokedKeys: bytes('KRL') }), undefined, [CA]),
    ]
    expect(new Set(digests).size).toBe(digests.length)
    // Whoever says it: the template is the same.
    expect(digest(ssh({ ca: [CA] }))).toBe(digest({}, undefined, [CA]))
    expect(digest(ssh({ ca: [] }), undefined, [CA])).toBe(digest())
  })
  test('the bytes of the source', () => {
    expect(digest({}, 'sha512:abd')).not.toBe(digest())
  })
})

describe('the digest does not change with', () => {
  const spec = imageSpec()
  test.each<[string, Partial<VmSpec>]>([
    [
      'cores, memory and timeouts of the build',
      { build: { cores: 8, memory: 8192, bootTimeout: 1, timeout: 2 } },
    ],
    [
      'names, places and timeouts of layers',
      {
        layers: spec.layers.map((layer) => ({
          ...layer,
          name: 'x',
          timeoutSeconds: 1,
          where: { ...WHERE, line: 99 },
        })),
      },
    ],
    [
      'how many versions are kept, how long and under which VMID',
      { template: { ...spec.template, keep: 1, vmid: 8000, maxAge: 3600 } },
    ],
    [
      'where its updates come from',
      {
        repositories: [
          {
            ...{ url: 'http://x', suite: 's', components: ['main'], isSecurity: false },
            ...{ keyring: bytes('key'), where: WHERE },
          },
        ],
      },
    ],
    [
      'where it stands, what it is called and described as',
      { where: { ...WHERE, line: 99 }, name: 'x', description: 'y' },
    ],
    [
      'how the source is asked for, when the bytes are the same',
      {
        source: {
          kind: 'release',
          release: 'debian/13',
          fallback: false,
          architecture: 'amd64',
          where: WHERE,
        },
      },
    ],
  ])('%s', (_name, change) => {
    expect(digest(change)).toBe(digest())
  })

  test('where a secret comes from', () => {
    const from = (reference: 'env:A' | 'cmd:pass a') =>
      digest({ layers: [shellLayer({ secrets: { TOKEN: reference } })] })
    expect(from('env:A')).toBe(from('cmd:pass a'))
  })

  test('the file that a script was read from', () => {
    expect(digest({ layers: [shellLayer({ source: '/a/x.sh' })] })).toBe(
      digest({ layers: [shellLayer({ source: '/b/y.sh' })] }),
    )
  })

  test('the order of keys', () => {
    const [fragment] = CLOUD_INIT as [(typeof CLOUD_INIT)[0]]
    const turned = { ...fragment, config: { timezone: 'UTC', packages: ['curl'] } }
    expect(digest({ cloudInit: [turned] })).toBe(digest({ cloudInit: CLOUD_INIT }))
  })
})

test('each layer’s digest chains over the ones before it, and over none after it', () => {
  const one = makePlan(imageSpec(), { sourceIdentity: 'sha512:abc', ssh: { authorities: [] } })
  const last = makePlan(imageSpec({ layers: [packagesLayer(), fileLayer()] }), {
    sourceIdentity: 'sha512:abc',
    ssh: { authorities: [] },
  })
  const first = makePlan(
    imageSpec({ layers: [packagesLayer({ upgrade: true }), fileLayer(), shellLayer()] }),
    { sourceIdentity: 'sha512:abc', ssh: { authorities: [] } },
  )
  expect(last.layers.map((layer) => layer.digest)).toEqual(
    one.layers.slice(0, 2).map((layer) => layer.digest),
  )
  expect(first.layers.filter((layer, index) => layer.digest === one.layers[index]?.digest)).toEqual([])
})

test('what a definition asks for, in one line', () => {
  const common = { architecture: 'amd64', where: WHERE } as const
  expect(sourceRequest({ ...common, kind: 'release', release: 'debian/12', fallback: true })).toBe(
    'release debian/12 amd64',
  )
  const checksum = { algorithm: 'sha256', value: 'ab' } as const
  expect(sourceRequest({ ...common, kind: 'url', url: 'https://x/y', checksum, format: 'qcow2' })).toBe(
    'url sha256:ab qcow2',
  )
  expect(sourceRequest({ ...common, kind: 'image', image: 'base' })).toBe('image base')
  const bootstrap = {
    ...common,
    kind: 'bootstrap',
    distribution: 'debian',
    suite: 'trixie',
    packages: [],
  } as const
  expect(sourceRequest({ ...bootstrap, packages: [] })).toBe('bootstrap ["debian","trixie","amd64",[],null]')
})
