import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { formatPlan, type Planned, planAsJson } from '../../src/cli/plan-text.ts'
import type { RunResult } from '../../src/core/events.ts'
import { projectOnDisk } from '../definition/project-on-disk.ts'
import { cli } from './captured.ts'

/** A family of images, and a Proxmox that is not there: nothing listens on port 1. */

beforeEach(() => {
  for (const name of Object.keys(process.env))
    if (name.startsWith('IMAGEBUILD_') || name === 'CI') vi.stubEnv(name, undefined)
  vi.stubEnv('NO_COLOR', '1')
  vi.stubEnv('PROXMOX_VE_API_TOKEN', 'builder@pve!t1=00000000-0000-0000-0000-000000000000')
})
afterEach(() => {
  vi.unstubAllEnvs()
})

const CONFIG = `
namespace: homelab
targets:
  home:
    kind: pve
    endpoint: https://127.0.0.1:1
    node: pve
    storages: { disks: local-lvm, images: local }
    bridge: vmbr0
    addresses: dhcp
`
const image = (name: string, source: string) => [
  `images/${name}/image.yaml`,
  `name: ${name}\nsource: { ${source} }\n`,
]
const FILES = Object.fromEntries([
  ['imagebuild.yaml', CONFIG],
  image('debian-base', 'release: debian/12'),
  image('web', 'image: debian-base'),
  image('shop', 'image: web'),
  image('other', 'release: debian/12'),
])

async function run(...args: string[]) {
  await using project = await projectOnDisk(FILES)
  return await cli('--config', join(project.root, 'imagebuild.yaml'), ...args)
}

describe('run', () => {
  async function results(...args: string[]) {
    const { code, stdout } = await run('run', ...args, '--json')
    const last = JSON.parse(stdout.trimEnd().split('\n').at(-1) ?? '')
    return { code, results: last.results as (RunResult & { error: { what: string; why: string } })[] }
  }

  test('a parent that fails skips its children and theirs, by name; others are tried', async () => {
    const { code, results: all } = await results('--all', '--parallel', '3')
    expect(code).toBe(69)
    const by = Object.fromEntries(all.map(({ image: name, error }) => [name, error]))
    expect(by.web).toMatchObject({ what: 'web was skipped', why: 'its parent debian-base failed' })
    expect(by.shop).toMatchObject({
      what: 'shop was skipped',
      why: 'its parent web failed',
      next: expect.stringContaining('imagebuild run web shop'),
    })
    expect(by['debian-base']).toMatchObject({ code: 'unreachable' })
    expect(by.other).toMatchObject({ code: 'unreachable' })
  })

  test('names may be patterns, and results come parents first', async () => {
    const names = async (...args: string[]) => (await results(...args)).results.map((one) => one.image)
    expect(await names('{w,s}*')).toEqual(['web', 'shop'])
    expect(await names('*-base', 'shop')).toEqual(['debian-base', 'shop'])
    expect(await names('web', 'we?')).toEqual(['web'])
  })

  test('a pattern that fits nothing is wrong usage', async () => {
    const { code, stderr } = await run('run', 'ubuntu-*')
    expect(code).toBe(64)
    expect(stderr).toContain('no image is called ubuntu-*')
    expect(stderr).toContain('there are debian-base, other, shop, web')
  })

  test('the log is named once, at the end', async () => {
    const { stderr } = await run('run', '--all')
    expect(stderr.match(/the whole log: /g)).toHaveLength(1)
    expect(stderr.trimEnd().split('\n').at(-1)).toContain('the whole log: ')
  })
})

describe('plan', () => {
  test('a target that does not answer is an error, with or without --detailed-exitcode', async () => {
    for (const more of [[], ['--detailed-exitcode'], ['--json']])
      expect((await run('plan', ...more)).code).toBe(69)
  })

  test('what is doubtful in definitions is said, though the target does not answer', async () => {
    const { stderr } = await run('plan', 'other')
    expect(stderr).toMatch(/^\S*images\/other\/image.yaml:2:20: warning: .* Debian 12 ended on 20/)
  })
})

const PLANNED: Planned[] = [
  {
    image: 'debian-base',
    foresight: {
      image: 'debian-base',
      action: 'rebuild',
      reasons: [
        {
          kind: 'definition',
          subject: 'shell: true',
          text: 'layer 1/2 changed: shell: true',
          where: { file: 'images/debian-base/image.yaml', line: 7, column: 5 },
          diff: ' one\n-two\x1b[2J\n+three',
        },
        { kind: 'source', subject: 'release debian/12 amd64', text: 'release debian/12 amd64: 1 → 2' },
      ],
      templates: [{ node: 'pve', vmid: 9000, name: 'x', version: '20260101.1', digest: 'sha256:a' }],
      digest: 'sha256:b',
      after: 'sha256:b',
    },
  },
  {
    image: 'db',
    foresight: {
      image: 'db',
      action: 'nothing',
      reasons: [],
      templates: [{ node: 'pve', vmid: 9001, name: 'x', version: '20260101.1', digest: 'sha256:a' }],
      digest: 'sha256:a',
      after: 'sha256:a',
    },
  },
  { image: 'web', skippedBy: 'x' },
]

describe('what plan prints', () => {
  const format = (explain: boolean) => formatPlan(PLANNED, { explain, root: process.cwd() })

  test('one line for each image', () => {
    expect(format(false)).toBe(
      'debian-base  rebuild  layer 1/2 changed: shell: true (and 1 more)\n' +
        'db           nothing  20260101.1 is up to date\n' +
        'web          skipped  nobody knows what becomes of its parent x\n',
    )
  })

  test('with --explain all reasons, their places and differences; nothing steers the terminal', () => {
    expect(format(true)).toBe(
      'debian-base  rebuild\n' +
        '    layer 1/2 changed: shell: true  images/debian-base/image.yaml:7\n' +
        '         one\n        -two\n        +three\n' +
        '    release debian/12 amd64: 1 → 2\n' +
        'db           nothing  20260101.1 is up to date\n' +
        'web          skipped\n' +
        '    nobody knows what becomes of its parent x\n',
    )
  })

  test('as JSON, schema 1', () => {
    const [first] = PLANNED
    expect(planAsJson(PLANNED, { target: 'home', changes: 1, warnings: [] })).toEqual({
      schema: 1,
      target: 'home',
      changes: 1,
      warnings: [],
      images: [
        {
          image: 'debian-base',
          action: 'rebuild',
          reasons: first?.foresight?.reasons,
          templates: first?.foresight?.templates,
          digest: 'sha256:b',
        },
        expect.objectContaining({ image: 'db', action: 'nothing', reasons: [] }),
        {
          image: 'web',
          action: 'skipped',
          reasons: [{ kind: 'parent', subject: 'x', text: 'nobody knows what becomes of its parent x' }],
          templates: [],
        },
      ],
    })
  })
})
