import { z } from 'zod'
import { secretReference, serverUrl } from './formats.ts'
import { needs, notBoth, withRules } from './rules.ts'

/**
 * `ci` in imagebuild.yaml: what a scheduled run takes for a reason to build, and whom it tells what it has done. Addresses
 * that are passwords in themselves (a webhook's, a topic of ntfy, a key of Apprise, where a dead man's switch is pinged) are
 * references, as all secrets are.
 */

const on = z
  .array(z.enum(['change', 'failure', 'waiting']))
  .min(1)
  .meta({ uniqueItems: true })
  .default(['change', 'failure'])
  .describe(
    'when a message is sent. change: an image was rebuilt; failure: something failed; waiting: a stale image is paused or held',
  )

const rootOfServer = z
  .string()
  .regex(/^https?:\/\/[^\s/@?#]+\/?$/, 'must be an http or https URL without a path: https://ntfy.example')

const secretUrl = secretReference.describe('http or https URL, by reference: whoever knows it can use it')

/** Words that no header can be broken with. */
const mailAddress = z
  .string()
  .regex(
    /^[A-Za-z0-9_%+=~][A-Za-z0-9._%+=~-]*(@[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?)?$/,
    'must be a mail address alone (ops@example.com), or a user of this machine',
  )

const headerName = z
  .string()
  .regex(/^[A-Za-z0-9!#$%&'*+.^_`|~-]+$/, 'must be the name of an HTTP header')
  .refine(
    (text) => !/^(host|content-length|content-type|transfer-encoding|connection)$/i.test(text),
    'is set by imagebuild itself',
  )

const apprise = withRules(
  z.strictObject({
    kind: z.literal('apprise'),
    url: serverUrl.describe('of the Apprise API: http://apprise.example:8000'),
    key: secretReference.optional().describe('of a configuration that the server has, by reference'),
    tag: z
      .string()
      .regex(/^[\w,| -]+$/, 'must be tags of Apprise: letters, digits, commas and spaces')
      .optional()
      .describe('which of the addresses of `key`; all when missing'),
    urls: secretReference
      .optional()
      .describe('Apprise URLs, one a line, by reference; without `key` and `urls`, the server’s own'),
    on,
  }),
  notBoth('key', 'urls', 'the addresses come from one of them'),
  needs('tag', 'key'),
)

const ntfy = withRules(
  z.strictObject({
    kind: z.literal('ntfy'),
    url: rootOfServer.default('https://ntfy.sh').describe('of the ntfy server'),
    topic: secretReference.describe('by reference: whoever knows it can read it'),
    token: secretReference.optional().describe('access token, by reference'),
    username: z
      .string()
      .regex(/^[^\s:]+$/, 'must be a name without spaces and colons')
      .optional(),
    password: secretReference.optional().describe('of `username`, by reference'),
    on,
  }),
  needs('username', 'password'),
  needs('password', 'username'),
  notBoth('token', 'username', 'there is one way to log in'),
)

const webhook = z.strictObject({
  kind: z.literal('webhook'),
  url: secretUrl,
  headers: z.record(headerName, secretReference).default({}).describe('HTTP headers, values by reference'),
  on,
})

const mail = z.strictObject({
  kind: z.literal('mail'),
  to: z.array(mailAddress).min(1).meta({ uniqueItems: true }),
  from: mailAddress.optional().describe('what sendmail chooses when missing'),
  sendmail: z
    .string()
    .regex(/^\/[^\0]*[^/\0]$/, 'must be an absolute path')
    .default('/usr/sbin/sendmail')
    .describe('the program; it is given the message with -t -oi'),
  on,
})

const healthchecks = z.strictObject({
  kind: z.literal('healthchecks'),
  url: secretUrl.describe('the check’s ping URL, by reference: https://hc-ping.com/<uuid>'),
})

const uptimeKuma = z.strictObject({
  kind: z.literal('uptime-kuma'),
  url: secretUrl.describe('the monitor’s push URL, by reference: https://kuma.example/api/push/<token>'),
})

const pullRequest = z.strictObject({
  kind: z
    .enum(['github', 'forgejo'])
    .optional()
    .describe('forgejo is Gitea, too; the CI system’s own when missing'),
  api: serverUrl
    .optional()
    .describe('address of the API: https://codeberg.org/api/v1; the CI system’s own when missing'),
  repository: z
    .string()
    .regex(/^[\w.-]+\/[\w.-]+$/, 'must be owner/name')
    .optional()
    .describe('owner/name; the one that the CI system runs for when missing'),
  base: z
    .string()
    .regex(/^(?!.*\.\.)[^-/\s~^:?*[\\][^\s~^:?*[\\]*$/, 'must be the name of a branch')
    .optional()
    .describe('branch that it is for; the one of the run, or the repository’s default, when missing'),
  token: secretReference
    .optional()
    .describe('by reference; IMAGEBUILD_FORGE_TOKEN, or the CI system’s own, when missing'),
  ca: z.string().min(1).optional().describe('PEM file of the server’s CA, relative to this file'),
})

export const ci = z.strictObject({
  security: z
    .enum(['any', 'low', 'medium', 'high', 'critical', 'off'])
    .default('any')
    .describe(
      'from which urgency on a security update is a reason to build anew; any also without known urgency',
    ),
  updates: z.boolean().default(true).describe('whether other updates are a reason to build anew'),
  pauseAfter: z
    .int()
    .min(1)
    .default(3)
    .describe('failures in a row, for the same reasons, after which an image is left alone'),
  pullRequest: pullRequest
    .optional()
    .describe('a pull request for each change; {} takes everything from the CI system'),
  notify: z
    .array(z.discriminatedUnion('kind', [apprise, ntfy, webhook, mail]))
    .default([])
    .describe('who gets a message'),
  ping: z
    .array(z.discriminatedUnion('kind', [healthchecks, uptimeKuma]))
    .default([])
    .describe('dead man’s switches: pinged by each run, also where nothing was stale'),
  metrics: z
    .string()
    .regex(/^[^\0]*[^/\0]\.prom$/, 'must be a file whose name ends in .prom')
    .optional()
    .describe('file for the textfile collector of Prometheus’ node_exporter; its folder must be there'),
})

export type PullRequestSettings = z.output<typeof pullRequest>
export type Ci = z.output<typeof ci>
export type Channel = Ci['notify'][number]
export type Occasion = Channel['on'][number]
export type AppriseChannel = Extract<Channel, { kind: 'apprise' }>
export type NtfyChannel = Extract<Channel, { kind: 'ntfy' }>
export type WebhookChannel = Extract<Channel, { kind: 'webhook' }>
export type MailChannel = Extract<Channel, { kind: 'mail' }>
export type DeadManSwitch = Ci['ping'][number]
