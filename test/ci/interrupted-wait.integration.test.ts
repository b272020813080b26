import { execa } from 'execa'
import { expect, test } from 'vitest'
import { serveForgejo } from './forgejo-server.ts'
import { serveGithub } from './github-server.ts'

/** Interrupts itself while it waits, and ends when nothing keeps it alive any more. */
const PROGRAM = `
import { openForge } from './ci/open-forge.ts'
import { SecretRegistry } from './src/core/secrets.ts'
const [, kind, api] = process.argv
const controller = new AbortController()
const say = (line) => {
  console.log(line)
  setImmediate(() => controller.abort(new Error('interrupted')))
}
const settings = { kind, api, owner: 'acme', repo: 'images', token: 'env:TOKEN_OF_TESTS' }
const forge = await openForge(settings, new SecretRegistry(), { say, signal: controller.signal })
await forge.defaultBranch().catch((error) => console.log(error.message))
`

const SLOW_DOWN = {
  status: 429,
  body: { message: 'You have exceeded a secondary rate limit.' },
  headers: { 'retry-after': '800' },
}

test.each([
  ['forgejo', serveForgejo],
  ['github', serveGithub],
] as const)('%s: who interrupts a wait does not wait for its end', async (kind, serve) => {
  await using server = await serve()
  server.faults.push({ method: 'GET', path: /./, times: 9, answer: SLOW_DOWN })
  const { stdout } = await execa(
    process.execPath,
    ['--input-type=module', '--eval', PROGRAM, '--', kind, server.api],
    { env: { TOKEN_OF_TESTS: 'token-of-the-tests' }, timeout: 100_000 },
  )
  expect(stdout.split('\n')).toEqual([expect.stringContaining('800 s'), 'interrupted'])
  expect(server.requests).toHaveLength(1)
})
