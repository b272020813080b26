import { execFileSync } from 'node:child_process'
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { PYTHON } from '../seed/python.ts'
import { built, failed, image, listener, run } from './runs.ts'

/** A sendmail that keeps what it is given; then it does as `end` says. */
function sendmail(end = 'exit 0') {
  const folder = mkdtempSync(join(tmpdir(), 'imagebuild-mail-'))
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }))
  const path = join(folder, 'sendmail')
  writeFileSync(path, `#!/bin/sh\ncd ${folder} && printf '%s\\n' "$@" > arguments && cat > message\n${end}\n`)
  chmodSync(path, 0o755)
  return {
    path,
    arguments: () => readFileSync(join(folder, 'arguments'), 'utf8').trimEnd().split('\n'),
    message: () => readFileSync(join(folder, 'message'), 'utf8'),
  }
}

const READER = `
import email, email.policy, json, sys
mail = email.message_from_binary_file(sys.stdin.buffer, policy=email.policy.default)
defects = [*mail.defects, *(defect for header in mail.values() for defect in header.defects)]
print(json.dumps({'headers': {k.lower(): v for k, v in mail.items()}, 'body': mail.get_content(), 'defects': [str(defect) for defect in defects]}))`

/** As Python's own parser reads it. */
function read(message: string): { headers: Record<string, string>; body: string; defects: string[] } {
  return JSON.parse(execFileSync(PYTHON, ['-c', READER], { input: message, encoding: 'utf8' }))
}

const to = (program: string, more: object = {}) => ({
  notify: [{ kind: 'mail', to: ['ops@example.com', 'dev@example.com'], sendmail: program, ...more }],
})

test('sendmail gets a message whose headers say who gets it', async () => {
  const program = sendmail()
  const told = listener()
  await told.end(to(program.path, { from: 'imagebuild@example.com' }), run([built, failed]))
  expect(told.warnings).toEqual([])
  expect(program.arguments()).toEqual(['-t', '-oi'])
  const { headers, body, defects } = read(program.message())
  expect(defects).toEqual([])
  expect(headers).toMatchObject({
    to: 'ops@example.com, dev@example.com',
    from: 'imagebuild@example.com',
    subject: 'imagebuild homelab (home): 1 failed, 1 rebuilt',
    date: 'Sun, 01 Nov 2026 03:04:05 +0000',
    'auto-submitted': 'auto-generated',
  })
  expect(body).toMatch(
    /^web: failed at check port 80: .*\ndebian-base: rebuilt, 20261001\.1 → 20261101\.1; .*\n$/,
  )
})

test('a user of this machine; without `from`, sendmail chooses', async () => {
  const program = sendmail()
  await listener().end(to(program.path, { to: ['root'] }), run([built]))
  const { headers } = read(program.message())
  expect(headers).toMatchObject({ to: 'root' })
  expect(headers).not.toHaveProperty('from')
})

test('texts from outside are encoded, and break no header', async () => {
  const program = sendmail()
  const told = listener()
  const target = `hü\r\nBcc: eve@example.com\r\n\r\n${'prüfstand '.repeat(20)}`
  const odd = image({ ...failed, failure: { what: 'a\n.\nb\u001b[2J' } })
  await told.end(to(program.path), run([odd], { target }))
  expect(told.warnings).toEqual([])
  const raw = program.message()
  // RFC 5322, 2.1.1: ASCII alone, 998 characters at most; 78 is what is asked for.
  const [head = ''] = raw.split('\n\n')
  expect(head).toMatch(/^[\x20-\x7e\n]*$/)
  expect(head.split('\n').every((line) => line.length <= 78)).toBe(true)
  const { headers, body, defects } = read(raw)
  expect(defects).toEqual([])
  expect(headers).not.toHaveProperty('bcc')
  expect(headers.subject).toBe(
    `imagebuild homelab (hü Bcc: eve@example.com ${'prüfstand '.repeat(20).trim()} ): 1 failed`,
  )
  expect(body).toMatch(/^web: failed: a \. b; /)
})

test.each([
  [
    'refuses',
    'echo "no such user: ops" >&2; exit 67',
    'sendmail ends with 67: no such user: ops (look at the mail server’s log',
  ],
  ['reads nothing', 'true', undefined],
])('a sendmail that %s', async (_, end, why) => {
  const program = sendmail(end)
  const told = listener()
  await told.end(to(program.path), run([built]))
  expect(told.warnings).toEqual(why === undefined ? [] : [expect.stringContaining(why)])
})

test('no sendmail is said, with what to install', async () => {
  const told = listener()
  await told.end(to('/nowhere/sendmail'), run([built]))
  expect(told.warnings).toEqual([
    'the mail to ops@example.com, dev@example.com was not sent: /nowhere/sendmail cannot be started (ENOENT) (install a mail server (msmtp-mta, nullmailer, postfix), or set `sendmail` to its program); the run itself is not affected',
  ])
})
