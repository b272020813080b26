import { readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { formatResult } from '../../src/cli/render.ts'
import { type FaultsInput, readFaults } from '../../src/lab/faults.ts'
import { block, blocksOf, DOCUMENTS, textOf } from './blocks.ts'
import { begins, EXAMPLES, examples, fateOf } from './examples.ts'

describe('each example', () => {
  test.each(DOCUMENTS.flatMap(blocksOf).map((one) => [`${one.document}:${one.line}`, one] as const))(
    '%s has its test',
    (_, one) => {
      expect(begins(one)).toHaveLength(1)
    },
  )

  test('that has a test is still there', () => {
    for (const document of DOCUMENTS)
      for (const begin of Object.keys(EXAMPLES[document])) expect(block(document, begin).text).not.toBe('')
  })

  test.each(examples('run', 'shown'))('%s is taken by the test that is named', (_, one) => {
    const fate = fateOf(one)
    const by = fate?.how === 'run' || fate?.how === 'shown' ? fate.by : ''
    const [begin = ''] = begins(one)
    expect(readFileSync(by, 'utf8').replaceAll(/\s+/g, ' ')).toContain(`'${one.document}', '${begin}'`)
  })
})

test('the line that run prints looks as README has it', () => {
  const { text } = block('README.md', '$ ./imagebuild run debian-base')
  const row = { node: 'lab', vmid: 9000, name: 'x', version: 'x', digest: 'x' }
  const result = {
    image: 'debian-base',
    status: 'built' as const,
    held: false,
    templates: [row],
    seconds: 372,
  }
  expect(text.split('\n')[1]).toBe(formatResult(result))
})

test("the lab's settings in README are settings", () => {
  const json = [...textOf('README.md').matchAll(/`(\{ "faults": .*? \})`/g)].map(([, text = '']) => text)
  expect(json).toHaveLength(1)
  for (const text of json) readFaults((JSON.parse(text) as { faults: FaultsInput }).faults)
})
