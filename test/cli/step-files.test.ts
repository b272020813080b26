import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { guardOutput } from '../../src/cli/output.ts'
import { writeOutputs, writeSummary } from '../../src/cli/step-files.ts'
import { REDACTED, SecretRegistry } from '../../src/core/secrets.ts'

let folder: string
let said: string
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'imagebuild-step-files-'))
  vi.stubEnv('GITHUB_STEP_SUMMARY', join(folder, 'summary'))
  vi.stubEnv('GITHUB_OUTPUT', join(folder, 'output'))
  const secrets = new SecretRegistry()
  secrets.add('hunter2')
  guardOutput(secrets)
  said = ''
  vi.spyOn(process.stderr, 'write').mockImplementation((text) => {
    said += String(text)
    return true
  })
})
afterEach(async () => {
  vi.unstubAllEnvs()
  vi.restoreAllMocks()
  guardOutput(new SecretRegistry())
  await rm(folder, { recursive: true, force: true })
})

/** The outputs of a file, as the runner reads them (actions/runner, src/Runner.Worker/FileCommandManager.cs). */
async function outputs(): Promise<Record<string, string>> {
  const lines = (await readFile(join(folder, 'output'), 'utf8')).split('\n')
  const found: Record<string, string> = {}
  while (lines.length > 1) {
    const [name = '', end = ''] = lines.shift()?.split('<<') ?? []
    const value = lines.splice(0, lines.indexOf(end))
    lines.shift()
    found[name] = value.join('\n')
  }
  return found
}

test('summaries of a step follow upon each other', async () => {
  await writeSummary('| image |\n|---|\n| web |')
  await writeSummary('hunter2 \x1b[2J\n')
  expect(await readFile(join(folder, 'summary'), 'utf8')).toBe(`| image |\n|---|\n| web |\n\n${REDACTED}\n\n`)
  expect(said).toBe('')
})

test('outputs have names that expressions can name, and values of any lines', async () => {
  await writeOutputs(
    new Map([
      ['template_id_debian-base', '9000'],
      ['a=b<<c\nd.e', 'one\ntwo'],
      ['9', 'hunter2'],
    ]),
  )
  await writeOutputs(new Map([['later', '']]))
  expect(await outputs()).toEqual({
    'template_id_debian-base': '9000',
    a_b__c_d_e: 'one\ntwo',
    _9: REDACTED,
    later: '',
  })
})

test('a value cannot end itself', async () => {
  await writeOutputs(new Map([['first', 'x']]))
  const end = /<<(.*)/.exec(await readFile(join(folder, 'output'), 'utf8'))?.[1]
  await writeOutputs(new Map([['second', `x\n${end}\nstolen<<y\nz\ny`]]))
  expect(await outputs()).toEqual({ first: 'x', second: `x\n${end}\nstolen<<y\nz\ny` })
})

test('where no runner reads, nothing is written and nothing said', async () => {
  vi.stubEnv('GITHUB_STEP_SUMMARY', undefined)
  vi.stubEnv('GITHUB_OUTPUT', '')
  await writeSummary('x')
  await writeOutputs(new Map([['a', 'b']]))
  expect(said).toBe('')
})

test('a file that cannot be written is said, and no failure', async () => {
  vi.stubEnv('GITHUB_STEP_SUMMARY', folder)
  vi.stubEnv('GITHUB_OUTPUT', join(folder, 'missing', 'output'))
  await writeSummary('x')
  await writeOutputs(new Map([['a', 'b']]))
  expect(said).toMatch(
    /^GITHUB_STEP_SUMMARY cannot be written: EISDIR.*\nGITHUB_OUTPUT cannot be written: ENOENT.*\n$/,
  )
})
