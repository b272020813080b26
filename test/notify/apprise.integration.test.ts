import { existsSync } from 'node:fs'
import { execa } from 'execa'
import { expect, test } from 'vitest'
import { apprise, sentIn } from './contracts.ts'
import { environment, failed, listener, run } from './runs.ts'
import { json, serve } from './server.ts'

/** Debian's, which speaks the services that the Apprise API speaks. */
const APPRISE = '/usr/bin/apprise'

test('what the Apprise API gets, Apprise delivers as it was', async ({ skip }) => {
  if (!existsSync(APPRISE)) skip(`${APPRISE} is missing (apt-get install apprise)`)
  // The end of the way: `json://` of Apprise posts to it.
  await using end = await serve(() => json(200, {}))
  const deliver = async (sent: Record<string, unknown>) => {
    const { title, body, type, format } = sent
    const options = {
      '--title': title,
      '--body': body,
      '--notification-type': type,
      '--input-format': format,
    }
    const argv = Object.entries(options).flat().map(String)
    const to = end.url.replace('http:', 'json:')
    const { failed: undelivered } = await execa(APPRISE, [...argv, to], { reject: false })
    return !undelivered
  }
  await using server = await serve(apprise({ house: [] }, deliver))
  environment({ KEY: 'house' })
  // Python reads a great deal before it sends anything.
  const told = listener({ trySeconds: 300 })
  await told.end({ notify: [{ kind: 'apprise', url: server.url, key: 'env:KEY' }] }, run([failed]))
  expect(told.warnings).toEqual([])
  expect(end.received.map(sentIn)).toMatchObject([
    {
      title: 'imagebuild homelab (home): 1 failed',
      message:
        'web: failed at check port 80: nothing listens on port 80; 20260901.2 stays current; stale because of age: 40 days',
      type: 'failure',
    },
  ])
})
