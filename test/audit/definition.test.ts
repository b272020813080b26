import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { withHardening } from '../../audit/definition.ts'
import { IMAGE, ROOT } from '../../audit/workspace.ts'

const BEFORE = 'name: web\nsource: { release: debian/12 }\n'
const AFTER = '\n# what follows stays\nprovision:\n  - packages: [curl]\n'

test.each([
  ['without', `${BEFORE}${AFTER}`],
  ['on one line', `${BEFORE}hardening: baseline\n${AFTER}`],
  [
    'with settings',
    `${BEFORE}hardening:\n  profile: baseline\n  except:\n    aide: too slow here\n\n${AFTER}`,
  ],
])('%s, the hardening is the one that was asked for, and nothing else has changed', (_, text) => {
  const lines = withHardening(text, 'cis-l1')
    .split('\n')
    .filter((line) => line !== '')
  expect(lines).toEqual([
    ...`${BEFORE}${AFTER}`.split('\n').filter((line) => line !== ''),
    'hardening: cis-l1',
  ])
})

test('the shipped image takes it', () => {
  const text = readFileSync(join(ROOT, 'images', IMAGE, 'image.yaml'), 'utf8')
  const changed = withHardening(text, 'cis-l1')
  expect(changed.match(/^hardening:.*$/gm)).toEqual(['hardening: cis-l1'])
})
