import { describe, expect, test } from 'vitest'
import { BODY_LIMIT } from '../../ci/forge.ts'
import { code, plain } from '../../ci/markdown.ts'
import { pullRequestBody, type Rebuilds, type Rebuilt } from '../../ci/pull-request-body.ts'
import { SecretRegistry } from '../../src/core/secrets.ts'

const web = (more: Partial<Rebuilt> = {}): Rebuilt => ({
  image: 'web',
  before: { version: '20261101.1', vmids: { pve1: 9000 } },
  after: { version: '20261130.1', vmids: { pve1: 9001, pve2: 9002 } },
  reasons: ['openssl 3.0.17-1 has a security update: 3.0.18-1'],
  packages: [
    { name: 'openssl', before: '3.0.17-1', after: '3.0.18-1', cves: ['CVE-2026-1111', 'CVE-2026-2222'] },
    { name: 'zlib1g', after: '1:1.3-1', cves: [] },
    { name: 'old', before: '1', cves: [] },
  ],
  verified: '41 checks passed on 2 clones',
  buildSeconds: 183.2,
  verifySeconds: 61,
  ...more,
})
const rebuilds = (more: Partial<Rebuilds> = {}): Rebuilds => ({
  target: 'home',
  rebuilt: [web()],
  failed: [],
  ...more,
})
const NONE = new SecretRegistry()
const rows = (body: string, name: string) => body.split('\n').filter((line) => line.startsWith(`| \`${name}`))

describe('the body of a pull request', () => {
  test('has versions, VMIDs, reasons, packages with CVEs, checks, times, and how to go back', () => {
    const body = pullRequestBody(rebuilds({ failed: [{ image: 'db', why: 'nginx does not answer' }] }), NONE)
    expect(rows(body, 'web')).toEqual([
      '| `web` | `20261101.1`: 9000 on `pve1` | `20261130.1`: 9001 on `pve1`, 9002 on `pve2` | openssl 3\\.0\\.17-1 has a security update\\: 3\\.0\\.18-1 |',
      '| `web` | 41 checks passed on 2 clones | 3 min 3 s | 1 min 1 s |',
    ])
    expect(body).toContain('| `openssl` | `3.0.17-1` | `3.0.18-1` | `CVE-2026-1111` `CVE-2026-2222` |\n')
    expect(body).toContain('| `zlib1g` | new | `1:1.3-1` |  |\n')
    expect(body).toContain('| `old` | `1` | gone |  |\n')
    expect(body).toContain('```sh\nimagebuild rollback web --target home\n```\n')
    expect(body).toContain('- `db`: nginx does not answer\n')
  })

  test('offers no way back where there was nothing before', () => {
    const { before: _, ...first } = web()
    const body = pullRequestBody(rebuilds({ rebuilt: [first] }), NONE)
    expect(rows(body, 'web')[0]).toContain('| nothing |')
    expect(body).not.toContain('rollback')
  })

  test('keeps GitHub’s limit by leaving out packages, and says how many', () => {
    const packages = Array.from({ length: 3000 }, (_, at) => ({
      name: `package-${at}`,
      before: '1',
      after: '2',
      cves: [],
    }))
    const body = pullRequestBody(rebuilds({ rebuilt: [web({ packages }), web({ image: 'db' })] }), NONE)
    expect(body.length).toBeLessThanOrEqual(BODY_LIMIT)
    expect(body.length).toBeGreaterThan(BODY_LIMIT - 1000)
    const shown = rows(body, 'package-').length
    expect(body).toContain(`… and ${3000 - shown} more, left out here`)
    // What goes first is whole, and later headings are there.
    expect(rows(body, 'db')).toHaveLength(2)
    expect(body).toContain('### Packages of `db`')
  })

  test.each([150, 1500])('keeps the limit also with more images than go in (%i)', (count) => {
    const many = Array.from({ length: count }, (_, at) =>
      web({ image: `image-${at}`, reasons: ['x'.repeat(1500)] }),
    )
    const body = pullRequestBody(rebuilds({ rebuilt: many }), NONE)
    expect(body.length).toBeLessThanOrEqual(BODY_LIMIT)
    expect(body.length).toBeGreaterThan(BODY_LIMIT - 2000)
    expect(body).toMatch(/… and \d+ more, left out here/)
    expect(body).toContain('### Roll back')
    // No block of code is left open.
    expect((body.match(/^```/gm) ?? []).length % 2).toBe(0)
  })
})

describe('text from outside', () => {
  test.each([
    ['a mention', '@acme/admins please', /@(?=\w)/],
    ['a reference', 'fixes #12 and GH-13', /#(?=\d)|GH-(?=\d)/],
    ['HTML', '<img src=x onerror=alert(1)>', /(?<!\\)</],
    ['a link', '[click](https://evil.test)', /(?<!\\)\[|https:/],
    ['a bare link', 'www.evil.test', /www\./],
    ['another cell', 'a | b', /(?<!\\)\|/],
    ['another line', 'a\n## b', /\n|(?<!\\)#/],
    ['an entity', '&#64;acme', /(?<!\\)&/],
    ['hidden text', 'a\u202eb\u2066c\u0007', /[\p{Cc}\p{Cf}]/u],
    ['a way out of an escape', '\\\\<b>', /(?<!\\)(?:\\\\)*</],
  ])('%s does nothing', (_, text, active) => {
    expect(text).toMatch(active)
    expect(plain(text)).not.toMatch(active)
  })

  test('code is closed by no tick of its own, and no cell ends in it', () => {
    expect(code('a`b``c')).toBe('```a`b``c```')
    expect(code('`a')).toBe('`` `a ``')
    expect(code('a|b')).toBe('a\\|b')
    expect(code('@acme\n')).toBe('`@acme`')
  })
})
