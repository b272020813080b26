import { expect, test } from 'vitest'
import { InvalidDefinition } from '../../src/definition/diagnostics.ts'
import { CONFIG, mistakesOfConfig, projectOnDisk } from './project-on-disk.ts'

test.each([
  [
    'ci: { notify: [{ kind: ntfy, topic: alerts }] }',
    /^4:37 `topic` must be a reference to a secret: env:NAME/,
  ],
  [
    'ci: { notify: [{ kind: mail, to: [root], on: [never] }] }',
    /^4:47 .*must be one of change, failure, waiting/,
  ],
  [
    'ci: { notify: [{ kind: slack }] }',
    /^4:24 `kind` must be one of apprise, ntfy, webhook, mail, not `slack`/,
  ],
  ['ci: { notify: [{ kind: apprise, url: "http://x", tag: a }] }', /^4:50 `tag` needs `key` beside it/],
  [
    'ci: { notify: [{ kind: webhook, url: env:U, headers: { Host: env:H } }] }',
    /^4:56 the name `Host` is set by imagebuild itself/,
  ],
  ['ci: { metrics: images.txt }', /^4:16 `metrics` must be a file whose name ends in \.prom/],
  [
    'ci: { security: mid }',
    /^4:17 `security` must be one of any, low, medium, high, critical, off, not `mid`/,
  ],
  ['ci: { pauseAfter: 0 }', /^4:19 `pauseAfter` must be at least 1/],
  ['ci: { pullRequest: { kind: gitlab } }', /^4:28 `kind` must be one of github, forgejo/],
  ['ci: { pullRequest: { repository: images } }', /^4:34 `repository` must be owner\/name/],
  ['ci: { pullRequest: { base: a..b } }', /^4:28 `base` must be the name of a branch/],
  ['ci: { pullRequest: { token: ghp_x } }', /^4:29 `token` must be a reference to a secret: env:NAME/],
  ['ci: { pullRequest: { ca: no.pem } }', /^4:26 `ca` cannot be read: there is no .*no\.pem/],
  ['ci: { pulRequest: {} }', /^4:7 unknown key `pulRequest` \(did you mean `pullRequest`\?\)/],
  ['ci: { notfy: [] }', /^4:7 unknown key `notfy` \(did you mean `notify`\?\)/],
])('%s', async (text, mistake) => {
  expect(await mistakesOfConfig(`${CONFIG}${text}\n`)).toEqual([expect.stringMatching(mistake)])
})

test('a secret that was typed in is not repeated, nor shown beside another mistake', async () => {
  const text = `${CONFIG}ci:
  ping: []
  metrics: x.txt
  notify:
    - { kind: webhook, url: https://hooks.example/5ecret, headers: { X-Key: 5ecret } }
    - kind: ntfy
      topic: >-
        5ecret
        5ecret
`
  await using project = await projectOnDisk({ 'imagebuild.yaml': text })
  const error = await project.load().catch((thrown: unknown) => thrown)
  if (!(error instanceof InvalidDefinition)) throw error
  expect(error.diagnostics).toHaveLength(4)
  const said = error.diagnostics.map(({ message, frame }) => `${message}\n${frame}`).join('\n')
  expect(said).toMatch(/url: •+, headers: { X-Key: •{6} }/)
  expect(said).not.toContain('5ecret')
})

test('files are relative to imagebuild.yaml', async () => {
  await using project = await projectOnDisk({
    'imagebuild.yaml': `${CONFIG}ci:
  notify: [{ kind: webhook, url: file:hook, headers: { X-Key: file:/etc/key, X-Other: env:OTHER } }]
  ping: [{ kind: healthchecks, url: file:ping }]
  metrics: out/imagebuild.prom
  pullRequest: { token: file:token, ca: ca.pem }
`,
    'ca.pem': '-----BEGIN CERTIFICATE-----',
  })
  const { ci } = await project.load()
  expect(ci).toMatchObject({
    pullRequest: { token: `file:${project.root}/token`, ca: `${project.root}/ca.pem` },
    notify: [
      {
        kind: 'webhook',
        url: `file:${project.root}/hook`,
        headers: { 'X-Key': 'file:/etc/key', 'X-Other': 'env:OTHER' },
        on: ['change', 'failure'],
      },
    ],
    ping: [{ kind: 'healthchecks', url: `file:${project.root}/ping` }],
    metrics: `${project.root}/out/imagebuild.prom`,
  })
})

test('without `ci` nobody is told, and each update is a reason', async () => {
  await using project = await projectOnDisk({})
  const { ci } = await project.load()
  expect(ci).toEqual({ security: 'any', updates: true, pauseAfter: 3, notify: [], ping: [] })
})
