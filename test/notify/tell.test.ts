import { expect, test } from 'vitest'
import { composeMessage, textOf } from '../../src/notify/message.ts'
import { ntfy } from './contracts.ts'
import { built, environment, failed, image, listener, run } from './runs.ts'
import { serve } from './server.ts'

const paused = image({ image: 'dns', outcome: 'paused', reasons: ['security: bind9 9.20.1 → 9.20.2'] })
const held = image({ image: 'db', outcome: 'held', reasons: ['age: 40 days'] })
const heldAndFresh = image({ image: 'db', outcome: 'held' })

test.each([
  ['nothing stale', run([image(), heldAndFresh]), undefined, false],
  ['a change', run([built, image()]), undefined, true],
  ['a failure', run([failed]), undefined, true],
  ['a run that failed as a whole', run([], { exitStatus: 69 }), undefined, true],
  [
    'a run that was ended',
    { namespace: 'h', target: 't', ended: new Date(0), seconds: 1, images: [], problems: [] },
    undefined,
    true,
  ],
  ['a lockfile that was not written', run([image()], { problems: ['the disk is full'] }), undefined, true],
  ['paused alone', run([paused]), undefined, false],
  ['a change, to who wants failures', run([built]), ['failure'], false],
  ['a failure, to who wants changes', run([failed]), ['change'], false],
  ['both, to who wants changes', run([built, failed]), ['change'], true],
  ['paused, to who wants to be reminded', run([paused]), ['waiting'], true],
  ['held and stale, to who wants to be reminded', run([held]), ['waiting'], true],
  ['held and fresh, to who wants to be reminded', run([heldAndFresh]), ['waiting'], false],
] as const)('%s', async (_, report, on, spoken) => {
  await using server = await serve(ntfy())
  environment({ TOPIC: 'images' })
  const told = listener()
  await told.end(
    { notify: [{ kind: 'ntfy', url: server.url, topic: 'env:TOPIC', ...(on && { on }) }] },
    report,
  )
  expect(told.warnings).toEqual([])
  expect(server.received).toHaveLength(spoken ? 1 : 0)
})

test('one that fails keeps no other from being told', async () => {
  await using server = await serve(ntfy())
  environment({ TOPIC: 'images' })
  const told = listener()
  await told.end(
    {
      ping: [{ kind: 'uptime-kuma', url: 'env:NOT_SET' }],
      notify: [
        { kind: 'mail', to: ['root'], sendmail: '/nowhere/sendmail' },
        { kind: 'ntfy', url: server.url, topic: 'env:TOPIC' },
      ],
    },
    run([built]),
  )
  expect(server.received).toHaveLength(1)
  expect(told.warnings.toSorted()).toEqual([
    expect.stringContaining('the mail to root was not sent'),
    expect.stringContaining('the secret env:NOT_SET cannot be read'),
  ])
})

test('a message reads like this', () => {
  const first = image({ image: 'cache', outcome: 'built', newVersion: '20261101.1', seconds: 31 })
  const many = image({ ...built, image: 'web', reasons: ['a', 'b', 'c', 'd', 'e', 'f', 'g'] })
  const { newVersion: _, ...neverBuilt } = failed
  const message = composeMessage(
    run([image(), paused, held, heldAndFresh, first, many, neverBuilt], {
      problems: ['imagebuild.lock.json cannot be written: the disk is full'],
      pullRequest: 'https://git.example/p/1',
    }),
  )
  expect(message.title).toBe('imagebuild homelab (home): 1 failed, 2 rebuilt, 1 paused, 1 held')
  expect(textOf(message)).toBe(
    [
      'imagebuild.lock.json cannot be written: the disk is full',
      'web: failed at check port 80: nothing listens on port 80; there is no template; stale because of age: 40 days',
      'cache: rebuilt, first version 20261101.1; VMID 9003 on pve1; 31 s',
      'web: rebuilt, 20261001.1 → 20261101.1; VMID 9003 on pve1, 9004 on pve2; 3 min 4 s; stale because of a, b, c, d, e, and 2 more reasons',
      'dns: paused, after repeated failures nothing is tried until the reasons change, or: imagebuild ci resume dns; 20261101.1 stays current; stale because of security: bind9 9.20.1 → 9.20.2',
      'db: held after a rollback, nothing is rebuilt before: imagebuild promote db@<version>; 20261101.1 stays current; stale because of age: 40 days',
      '2 images unchanged',
      'pull request: https://git.example/p/1',
    ].join('\n'),
  )
})

test('a run that ended before it knew its images says how', () => {
  const message = composeMessage(run([], { exitStatus: 69, problems: ['home cannot be reached'] }))
  expect(message.title).toBe('imagebuild homelab (home): the run failed (exit status 69)')
  expect(message.lines).toEqual(['home cannot be reached'])
})
