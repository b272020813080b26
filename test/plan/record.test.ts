import { expect, test } from 'vitest'
import { makePlan } from '../../src/plan/plan.ts'
import { recordPlan } from '../../src/plan/record.ts'
import { bytes, fileLayer, imageSpec } from './spec.ts'

const source = { request: 'r', identity: 'i', version: 'v', fallback: false }

function textOf(mode: string, content: string): string {
  const image = imageSpec({ layers: [fileLayer({ mode, content: bytes(content) })] })
  const plan = makePlan(image, { sourceIdentity: 'i', ssh: { authorities: [] } })
  const { layers } = recordPlan(plan, { version: '1', tool: '0', source, root: '/' })
  return layers.map(({ text = '' }) => text).join()
}

test.each(['0644', '0755', '644'])('a file that everybody may read (%s) is in the record', (mode) => {
  expect(textOf(mode, 'hello\n')).toContain('hello')
})

test.each(['0600', '0640', '400'])('of one that may be a key (%s), its size and digest', (mode) => {
  const text = textOf(mode, 'a private key\n')
  expect(text).not.toContain('private')
  expect(text).toMatch(/\(14 bytes, sha256:[0-9a-f]{64}\)/)
  expect(text).not.toBe(textOf(mode, 'another pri..\n'))
})
