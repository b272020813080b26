import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { LAB_HOST } from '../../src/cli/prerequisites.ts'

test('the wrapper installs for the lab what the program would', async () => {
  const text = await readFile(join(import.meta.dirname, '../../src/cli/lab-packages.txt'), 'utf8')
  const lines = text.split('\n').filter((line) => line !== '' && !line.startsWith('#'))
  const wanted = LAB_HOST.map(({ command, package: name }) => `${command} ${name}`)
  expect(lines.toSorted()).toEqual([...new Set(wanted)].toSorted())
})
