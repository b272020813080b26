import { expect, test } from 'vitest'
import { sentIn } from './contracts.ts'
import { built, environment, failed, image, listener, run } from './runs.ts'
import { type Received, serve } from './server.ts'

test('the report as JSON, with headers by reference', async () => {
  await using server = await serve(({ headers }) => ({
    status: headers['x-api-key'] === '5ecret' ? 202 : 401,
  }))
  environment({ HOOK: server.url, KEY: '5ecret' })
  const told = listener()
  const headers = { 'X-Api-Key': 'env:KEY' }
  const report = run([built, failed], { pullRequest: 'https://git.example/p/1' })
  await told.end({ notify: [{ kind: 'webhook', url: 'env:HOOK', headers }] }, report)
  expect(told.warnings).toEqual([])
  expect(server.received[0]?.headers['content-type']).toBe('application/json')
  expect(server.received.map(sentIn)).toEqual([
    {
      type: 'ci.report',
      schema: 1,
      title: 'imagebuild homelab (home): 1 failed, 1 rebuilt',
      text: expect.stringMatching(/^imagebuild homelab \(home\): 1 failed, 1 rebuilt\nweb: failed/),
      occasions: ['failure', 'change'],
      namespace: 'homelab',
      target: 'home',
      ended: '2026-11-01T03:04:05.000Z',
      seconds: 245,
      exitStatus: 1,
      problems: [],
      pullRequest: 'https://git.example/p/1',
      images: [built, failed],
    },
  ])
})

test('name and password of an address become a header', async () => {
  await using server = await serve(({ headers }) => ({
    status: headers.authorization === `Basic ${Buffer.from('me:p@ss').toString('base64')}` ? 200 : 401,
  }))
  environment({ HOOK: server.url.replace('//', '//me:p%40ss@') })
  const told = listener()
  await told.end({ notify: [{ kind: 'webhook', url: 'env:HOOK' }] }, run([built]))
  expect(told.warnings).toEqual([])
})

test('a secret with a line break adds no header', async () => {
  await using server = await serve(() => ({ status: 200 }))
  environment({ HOOK: server.url, KEY: '5ecret\r\nX-Other: 1' })
  const told = listener()
  await told.end(
    { notify: [{ kind: 'webhook', url: 'env:HOOK', headers: { 'X-Key': 'env:KEY' } }] },
    run([built]),
  )
  expect(server.received).toEqual([])
  expect(told.warnings).toEqual([expect.stringContaining('what env:KEY gives cannot be the header X-Key')])
  expect(told.warnings.join()).not.toContain('5ecret')
})

test('a secret that a failed command quoted does not leave this machine', async () => {
  await using server = await serve(() => ({ status: 200 }))
  environment({ HOOK: server.url, KEY: 'hunter2-of-the-build' })
  const told = listener()
  // Whatever was resolved before, here for a message of an earlier run.
  const config = { notify: [{ kind: 'webhook', url: 'env:HOOK', headers: { 'x-key': 'env:KEY' } }] }
  await told.end(config, run([built]))
  const quoting = image({ ...failed, failure: { what: 'login as hunter2-of-the-build refused' } })
  await told.end(config, run([quoting]))
  expect(told.warnings).toEqual([])
  expect(server.received[1]?.body).toContain('login as •••••• refused')
  expect(server.received[1]?.body).not.toContain('hunter2')
})

test('a secret is found though the message is one line and short', async () => {
  await using server = await serve(() => ({ status: 200 }))
  environment({ HOOK: server.url, KEY: 'correct horse battery' })
  const told = listener()
  const config = { notify: [{ kind: 'webhook', url: 'env:HOOK', headers: { 'x-key': 'env:KEY' } }] }
  await told.end(config, run([built]))
  const quoting = [
    'with correct \x1b[1mhorse\x1b[0m battery',
    // The second is cut in the middle of the secret.
    ...[488, 492].map((before) => `${'x'.repeat(before)} correct horse battery`),
  ]
  for (const what of quoting) await told.end(config, run([image({ ...failed, failure: { what } })]))
  expect(told.warnings).toEqual([])
  expect(server.received[1]?.body).toContain('failed: with ••••••; ')
  for (const { body } of server.received.slice(1)) expect(body).not.toMatch(/corr|horse/)
})

test('colours of a terminal do not remain as their letters', async () => {
  await using server = await serve(() => ({ status: 200 }))
  environment({ HOOK: server.url })
  const told = listener()
  const failure = { what: '\x1b[31mE:\x1b[0m no package' }
  await told.end({ notify: [{ kind: 'webhook', url: 'env:HOOK' }] }, run([image({ ...failed, failure })]))
  expect(sentIn(server.received[0] as Received).text).toContain('failed: E: no package;')
})

test('what a package or a command says calls nobody in a chat, and is no link', async () => {
  await using server = await serve(() => ({ status: 200 }))
  environment({ HOOK: server.url })
  const told = listener()
  const failure = { what: '<!channel> @here <@U024BE7LH> <https://evil.example|safe> & root@web' }
  const report = run([image({ ...failed, failure })])
  await told.end({ notify: [{ kind: 'webhook', url: 'env:HOOK' }] }, report)
  const { text, images } = sentIn(server.received[0] as Received)
  expect(text).toContain(
    '&lt;!channel&gt; @\u200bhere &lt;@\u200bU024BE7LH&gt; &lt;https://evil.example|safe&gt; &amp; root@\u200bweb',
  )
  expect(images).toMatchObject([{ failure }])
})
