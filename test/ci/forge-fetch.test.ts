import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { execa } from 'execa'
import { afterAll, beforeAll, expect, test, vi } from 'vitest'
import type { ForgeSettings } from '../../ci/forge.ts'
import { forgeFetch } from '../../ci/forge-fetch.ts'
import { openForgejo } from '../../ci/forgejo.ts'
import { openGithub } from '../../ci/github.ts'
import { openForge } from '../../ci/open-forge.ts'
import { SecretRegistry } from '../../src/core/secrets.ts'
import { serveForgejo } from './forgejo-server.ts'

let folder: string
let certificate: { key: string; cert: string }
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'imagebuild-forge-'))
  const [key, cert] = ['key', 'cert'].map((name) => join(folder, name)) as [string, string]
  const subject = ['-subj', '/CN=forge', '-addext', 'subjectAltName=IP:127.0.0.1']
  await execa('openssl', [
    'req',
    '-x509',
    '-newkey',
    'ec',
    '-pkeyopt',
    'ec_paramgen_curve:P-256',
    '-nodes',
    ...subject,
    '-keyout',
    key,
    '-out',
    cert,
  ])
  certificate = { key: await readFile(key, 'utf8'), cert: await readFile(cert, 'utf8') }
})
afterAll(() => rm(folder, { recursive: true }))

const context = { say: () => {}, signal: new AbortController().signal }
const settings = (api: string, more: Partial<ForgeSettings> = {}): ForgeSettings => ({
  kind: 'forgejo',
  api,
  owner: 'acme',
  repo: 'images',
  token: 'env:TOKEN_OF_TESTS',
  ...more,
})
const report = {
  commit: 'abc',
  name: 'n',
  state: 'success',
  title: 't',
  summary: '',
  annotations: [],
} as const

test.each([
  ['forgejo', openForgejo],
  // Milliseconds where it would wait seconds: a certificate may have been renewed meanwhile.
  ['github', (...all: Parameters<typeof openForge>) => openGithub(...all, { retryAfterBaseValue: 1 })],
] as const)('%s with an unknown certificate gets no request', async (kind, open) => {
  await using server = await serveForgejo(certificate)
  vi.stubEnv('TOKEN_OF_TESTS', 'secret')
  vi.stubEnv('NODE_TLS_REJECT_UNAUTHORIZED', '0')
  try {
    const forge = await open(settings(server.api, { kind }), new SecretRegistry(), context)
    await expect(forge.report(report)).rejects.toMatchObject({ why: expect.stringMatching(/self.signed/) })
    expect(server.requests).toEqual([])
  } finally {
    vi.unstubAllEnvs()
  }
})

test('a certificate of one’s own authority is believed', async () => {
  await using server = await serveForgejo(certificate)
  vi.stubEnv('TOKEN_OF_TESTS', 'secret')
  try {
    const own = settings(server.api, { ca: certificate.cert })
    await (await openForge(own, new SecretRegistry(), context)).report(report)
    expect(server.statuses).toHaveLength(1)
  } finally {
    vi.unstubAllEnvs()
  }
})

test('by plain http nothing goes through a proxy', async () => {
  await using server = await serveForgejo()
  await using proxy = await serveForgejo()
  vi.stubEnv('TOKEN_OF_TESTS', 'secret')
  for (const name of ['http_proxy', 'https_proxy']) vi.stubEnv(name, new URL(proxy.api).origin)
  for (const name of ['no_proxy', 'NO_PROXY']) vi.stubEnv(name, '')
  try {
    await (await openForge(settings(server.api), new SecretRegistry(), context)).report(report)
    expect([server.requests.length, proxy.requests.length]).toEqual([1, 0])
  } finally {
    vi.unstubAllEnvs()
  }
})

test('a token goes nowhere by plain http but to this machine', () => {
  for (const api of ['http://git.corp/api/v1', 'http://127.0.0.1.corp/', 'ftp://localhost/'])
    expect(() => forgeFetch({ api })).toThrow(expect.objectContaining({ code: 'usage' }))
  for (const api of ['http://localhost:3000/api/v1', 'http://[::1]/', 'https://git.corp'])
    expect(() => forgeFetch({ api })).not.toThrow()
})
