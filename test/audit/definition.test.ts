import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { definitionFor } from '../../audit/definition.ts'
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
  const lines = definitionFor(text, { release: '12', profile: 'cis-l1' })
    .split('\n')
    .filter((line) => line !== '')
  expect(lines).toEqual([
    ...`${BEFORE}${AFTER}`.split('\n').filter((line) => line !== ''),
    'hardening: cis-l1',
  ])
})

test('its release is the one that is audited; the strictest profile of 13 is post-quantum, as the policy for it is', () => {
  const of = (release: '12' | '13', profile: 'none' | 'cis-l1') =>
    definitionFor(BEFORE, { release, profile }).split('\n').slice(1)
  expect(of('13', 'cis-l1')).toEqual([
    ...['source: { release: debian/13 }', '', 'hardening: { profile: cis-l1, postQuantum: true }', ''],
  ])
  expect(of('13', 'none')).toEqual(['source: { release: debian/13 }', '', 'hardening: none', ''])
  expect(of('12', 'cis-l1').at(-2)).toBe('hardening: cis-l1')
})

test('the shipped image takes it', () => {
  const text = readFileSync(join(ROOT, 'images', IMAGE, 'image.yaml'), 'utf8')
  const changed = definitionFor(text, { release: '12', profile: 'cis-l1' })
  expect(changed.match(/^hardening:.*$/gm)).toEqual(['hardening: cis-l1'])
  expect(changed.match(/^ {2}release: .*$/gm)).toEqual(['  release: debian/12'])
})
