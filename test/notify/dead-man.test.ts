import { expect, test } from 'vitest'
import { healthchecks, uptimeKuma } from './contracts.ts'
import { built, environment, failed, image, listener, RUN, run } from './runs.ts'
import { serve } from './server.ts'

const CHECK = '5bf66975-d4c7-4bf5-bcc8-b8d8a82ea278'
const TOKEN = '4Gdp9cHeNu7MHZ6P'
const HEALTHCHECKS = { ping: [{ kind: 'healthchecks', url: 'env:PING_URL' }] }
const KUMA = { ping: [{ kind: 'uptime-kuma', url: 'env:PING_URL' }] }

test.each([
  ['nothing was stale', run([image()]), ''],
  ['a rebuild', run([built]), ''],
  ['a failed image', run([failed]), '/1'],
  ['a target out of reach', run([], { exitStatus: 69, problems: ['home cannot be reached'] }), '/69'],
  ['a run that was ended from outside', { ...run([]), exitStatus: undefined }, '/fail'],
])('healthchecks: start and end of one run, %s', async (_, { exitStatus, ...report }, path) => {
  await using server = await serve(healthchecks(CHECK))
  environment({ PING_URL: `${server.url}/${CHECK}` })
  const told = listener()
  await told.start(HEALTHCHECKS)
  await told.end(HEALTHCHECKS, { ...report, ...(exitStatus !== undefined && { exitStatus }) })
  expect(told.warnings).toEqual([])
  expect(server.received.map(({ url }) => url.pathname)).toEqual([`/${CHECK}/start`, `/${CHECK}${path}`])
  expect(server.received.map(({ url }) => url.searchParams.get('rid'))).toEqual([RUN, RUN])
})

test('healthchecks: the body tells what happened', async () => {
  await using server = await serve(healthchecks(CHECK))
  environment({ PING_URL: `${server.url}/${CHECK}` })
  await listener().end(HEALTHCHECKS, run([failed]))
  expect(server.received[0]?.body).toBe(
    'imagebuild homelab (home): 1 failed\nweb: failed at check port 80: nothing listens on port 80; 20260901.2 stays current; stale because of age: 40 days',
  )
})

test('healthchecks: a check by key and slug keeps its parameters', async () => {
  await using server = await serve(healthchecks('p1ng-key/images'))
  environment({ PING_URL: `${server.url}/p1ng-key/images?create=1` })
  const told = listener()
  await told.end(HEALTHCHECKS, run([failed]))
  expect(told.warnings).toEqual([])
  expect(`${server.received[0]?.url.pathname}${server.received[0]?.url.search}`).toBe(
    `/p1ng-key/images/1?create=1&rid=${RUN}`,
  )
})

test.each([
  [
    '404',
    { status: 404, body: 'not found' },
    'the server knows no such check (compare what env:PING_URL gives',
  ],
  [
    '200, of older servers',
    { status: 200, body: 'OK (not found)' },
    'the server knows no such check (compare what',
  ],
  ['too many', { status: 200, body: 'OK (rate limited)' }, 'the server did not record it: too many pings'],
  ['a slug of several', { status: 409, body: 'ambiguous slug' }, 'several checks have this slug (409)'],
])('healthchecks: a ping that was not recorded is said without its address: %s', async (_, reply, why) => {
  await using server = await serve(() => reply)
  environment({ PING_URL: `${server.url}/${CHECK}` })
  const told = listener()
  await told.end(HEALTHCHECKS, run([]))
  expect(told.warnings).toEqual([
    expect.stringContaining(`the ping to healthchecks (${server.url}/…) was not sent: ${why}`),
  ])
  expect(told.warnings.join()).not.toContain(CHECK)
})

test.each([
  [
    'nothing was stale',
    run([image()]),
    { status: 'up', msg: 'imagebuild homelab (home): nothing to rebuild', ping: '245000' },
  ],
  [
    'a failed image',
    run([failed]),
    { status: 'down', msg: 'imagebuild homelab (home): 1 failed', ping: '245000' },
  ],
  [
    'more than a day',
    run([built], { seconds: 90_000 }),
    { status: 'up', msg: 'imagebuild homelab (home): 1 rebuilt', ping: '86400000' },
  ],
])('Uptime Kuma: one push at the end, %s', async (_, report, parameters) => {
  await using server = await serve(uptimeKuma(TOKEN))
  // As the monitor’s page shows it.
  environment({ PING_URL: `${server.url}/api/push/${TOKEN}?status=up&msg=OK&ping=` })
  const told = listener()
  await told.start(KUMA)
  await told.end(KUMA, report)
  expect(told.warnings).toEqual([])
  expect(server.received.map(({ url }) => Object.fromEntries(url.searchParams))).toEqual([parameters])
})

test('Uptime Kuma: a monitor that it does not know is said without the token', async () => {
  await using server = await serve(uptimeKuma('another'))
  environment({ PING_URL: `${server.url}/api/push/${TOKEN}` })
  const told = listener()
  await told.end(KUMA, run([]))
  expect(told.warnings).toEqual([
    `the ping to Uptime Kuma (${server.url}/…) was not sent: the push was not recorded: Monitor not found or not active. (compare the address with the push URL that the monitor’s page shows); the run itself is not affected`,
  ])
})

test('Uptime Kuma: a page of another server is no success', async () => {
  await using server = await serve(() => ({ status: 200, body: '<html>welcome</html>' }))
  environment({ PING_URL: `${server.url}/api/push/${TOKEN}` })
  const told = listener()
  await told.end(KUMA, run([]))
  expect(told.warnings).toEqual([expect.stringContaining('the answer is not Uptime Kuma’s')])
})
