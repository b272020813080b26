import { expect, test } from 'vitest'
import { apprise, sentIn } from './contracts.ts'
import { built, environment, failed, image, listener, run } from './runs.ts'
import { serve } from './server.ts'

const KEY = 'k3y-of-the-house'
const channel = (url: string, more: object = {}) => ({ notify: [{ kind: 'apprise', url, ...more }] })

test('a configuration that the server has is named by its key', async () => {
  await using server = await serve(apprise({ [KEY]: ['ops'] }))
  environment({ KEY })
  const told = listener()
  await told.end(channel(`${server.url}/`, { key: 'env:KEY', tag: 'ops' }), run([failed]))
  expect(told.warnings).toEqual([])
  expect(server.received.map(({ url }) => url.pathname)).toEqual([`/notify/${KEY}`])
  expect(server.received.map(sentIn)).toEqual([
    {
      title: 'imagebuild homelab (home): 1 failed',
      body: 'web: failed at check port 80: nothing listens on port 80; 20260901.2 stays current; stale because of age: 40 days',
      type: 'failure',
      format: 'text',
      tag: 'ops',
    },
  ])
})

test.each([
  ['change', [built], 'success'],
  ['waiting', [image({ outcome: 'paused', reasons: ['age: 40 days'] })], 'warning'],
] as const)('addresses of the message itself, about %s', async (_, images, type) => {
  await using server = await serve(apprise({}))
  environment({ URLS: 'json://a.example\ntgram://5ecret/chat\n' })
  const told = listener()
  await told.end(channel(server.url, { urls: 'env:URLS', on: ['change', 'waiting'] }), run(images))
  expect(told.warnings).toEqual([])
  expect(server.received.map(({ url }) => url.pathname)).toEqual(['/notify'])
  expect(server.received.map(sentIn)).toMatchObject([
    { urls: ['json://a.example', 'tgram://5ecret/chat'], type },
  ])
})

test.each([
  [
    'no configuration',
    { key: 'env:KEY' },
    'Apprise has no configuration under the key that env:KEY gives (204): nobody got it',
  ],
  [
    'no valid address',
    { urls: 'env:URLS' },
    'Apprise found no valid address in env:URLS (204): nobody got it',
  ],
  [
    'no address at all',
    {},
    'Apprise found no valid address in APPRISE_STATELESS_URLS in the server’s environment (204)',
  ],
])('204 is a failure: %s', async (_, more, why) => {
  await using server = await serve(apprise({}))
  environment({ KEY, URLS: 'nonsense' })
  const told = listener()
  await told.end(channel(server.url, more), run([built]))
  expect(told.warnings).toEqual([
    expect.stringContaining(`the message to Apprise (${server.url}) was not sent: ${why}`),
  ])
  expect(server.received).toHaveLength(1)
})

test('424 says that some may have got it, and is not sent again', async () => {
  await using server = await serve(apprise({ [KEY]: [] }, () => false))
  environment({ KEY })
  const told = listener()
  await told.end(channel(server.url, { key: 'env:KEY' }), run([built]))
  expect(server.received).toHaveLength(1)
  expect(told.warnings).toEqual([
    expect.stringMatching(/at least one of its addresses \(424\); others may have got it/),
  ])
  expect(told.warnings.join()).not.toContain(KEY)
})

test('what cannot be a key is no part of an address', async () => {
  await using server = await serve(apprise({}))
  environment({ KEY: '../status' })
  const told = listener()
  await told.end(channel(server.url, { key: 'env:KEY' }), run([built]))
  expect(server.received).toEqual([])
  expect(told.warnings).toEqual([expect.stringContaining('what env:KEY gives is no key of Apprise')])
})

test('what a command says calls nobody in the chats behind Apprise', async () => {
  await using server = await serve(apprise({ [KEY]: [] }))
  environment({ KEY })
  const told = listener()
  const failure = { what: '@everyone: no package for root@web' }
  await told.end(channel(server.url, { key: 'env:KEY' }), run([image({ ...failed, failure })]))
  expect(told.warnings).toEqual([])
  expect(server.received.map(sentIn)).toMatchObject([
    { body: expect.stringContaining('@\u200beveryone: no package for root@\u200bweb') },
  ])
})
