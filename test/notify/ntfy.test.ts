import { expect, test } from 'vitest'
import { composeMessage } from '../../src/notify/message.ts'
import { publication } from '../../src/notify/ntfy.ts'
import { ntfy, sentIn } from './contracts.ts'
import { built, environment, failed, image, listener, run } from './runs.ts'
import { serve } from './server.ts'

const TOPIC = 'images-7c3fd1'
const channel = (url: string, more: object = {}) => ({
  notify: [{ kind: 'ntfy', url, topic: 'env:TOPIC', ...more }],
})

test('a change is published at the root, with the pull request one tap away', async () => {
  await using server = await serve(ntfy())
  environment({ TOPIC })
  const told = listener()
  await told.end(channel(server.url), run([built], { pullRequest: 'https://git.example/p/1' }))
  expect(told.warnings).toEqual([])
  expect(server.received.map(sentIn)).toEqual([
    {
      topic: TOPIC,
      title: 'imagebuild homelab (home): 1 rebuilt',
      message: expect.stringContaining('20261001.1 → 20261101.1; VMID 9003 on pve1, 9004 on pve2; 3 min 4 s'),
      priority: 3,
      tags: ['package'],
      click: 'https://git.example/p/1',
      actions: [{ action: 'view', label: 'Open the pull request', url: 'https://git.example/p/1' }],
    },
  ])
})

test('a failure is louder', async () => {
  await using server = await serve(ntfy())
  environment({ TOPIC })
  const told = listener()
  await told.end(channel(server.url), run([built, failed]))
  expect(told.warnings).toEqual([])
  expect(server.received.map(sentIn)).toMatchObject([{ priority: 4, tags: ['rotating_light'] }])
})

test.each([
  ['a token', { token: 'env:TOKEN' }, 'Bearer tk_5ecret'],
  [
    'a user',
    { username: 'phil', password: 'env:TOKEN' },
    `Basic ${Buffer.from('phil:tk_5ecret').toString('base64')}`,
  ],
])('%s logs in', async (_, login, header) => {
  await using server = await serve(ntfy(header))
  environment({ TOPIC, TOKEN: 'tk_5ecret' })
  const told = listener()
  await told.end(channel(server.url, login), run([built]))
  expect(told.warnings).toEqual([])
  expect(server.received).toHaveLength(1)
})

test('a server that refuses is asked once, and quoted without topic and token', async () => {
  await using server = await serve(() => ({
    status: 403,
    body: JSON.stringify({ error: `tk_5ecret may not write ${TOPIC}` }),
  }))
  environment({ TOPIC, TOKEN: 'tk_5ecret' })
  const told = listener()
  await told.end(channel(server.url, { token: 'env:TOKEN' }), run([built]))
  expect(server.received).toHaveLength(1)
  expect(told.warnings).toEqual([
    `the message to ntfy (${server.url}) was not sent: the server answers 403: •••••• may not write •••••• (check token, password or headers, and what they may do there); the run itself is not affected`,
  ])
})

test('what is no topic is not sent', async () => {
  await using server = await serve(ntfy())
  environment({ TOPIC: 'mine and yours' })
  const told = listener()
  await told.end(channel(server.url), run([built]))
  expect(server.received).toEqual([])
  expect(told.warnings).toEqual([expect.stringContaining('what env:TOPIC gives is no topic of ntfy')])
})

test('many images are cut at whole lines, with a word about it', async () => {
  await using server = await serve(ntfy())
  environment({ TOPIC })
  const many = Array.from({ length: 200 }, (_, n) =>
    image({ ...failed, image: `image-${n}`, failure: { what: 'ä'.repeat(90) } }),
  )
  const told = listener()
  await told.end(channel(server.url), run(many))
  expect(told.warnings).toEqual([])
  const message = String(sentIn(server.received[0] as never).message)
  const [cut = '', ...shown] = message.split('\n').toReversed()
  const [, left] = /^\(cut here: (\d+) more lines\)$/.exec(cut) ?? []
  expect(Number(left)).toBe(200 - shown.length)
  expect(shown.every((line) => line.endsWith('stale because of age: 40 days'))).toBe(true)
})

test('a message that is short enough, and in JSON too long, is cut further', async () => {
  await using server = await serve(ntfy())
  environment({ TOPIC })
  const quotes = '"'.repeat(490)
  const quoting = image({ ...failed, failure: { what: quotes }, reasons: [quotes, quotes, quotes] })
  const told = listener()
  const pullRequest = `https://git.example/${'p'.repeat(300)}`
  await told.end(channel(server.url), run([quoting, quoting, quoting], { pullRequest }))
  expect(told.warnings).toEqual([])
  expect(String(sentIn(server.received[0] as never).message)).toMatch(/\(cut here: 3 more lines\)$/)
})

test('a single line that is too long is cut between characters', () => {
  const message = { ...composeMessage(run([])), lines: ['😀'.repeat(3000)] }
  const { message: text } = JSON.parse(publication('t', message))
  expect(Buffer.byteLength(text)).toBeLessThanOrEqual(4096)
  expect(Buffer.byteLength(text)).toBeGreaterThan(4080)
  expect(text).toMatch(/^(😀)+ … \(cut here\)$/u)
})
