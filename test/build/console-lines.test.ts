import { expect, test } from 'vitest'
import { ConsoleLines } from '../../src/build/console-lines.ts'
import { generateKeyPair } from '../../src/ssh/openssh.ts'

/** All that would be shown of a text, whatever the pieces in which it comes. */
function shown(text: string, size = text.length): string[] {
  const lines = new ConsoleLines()
  const found: string[] = []
  for (let at = 0; at < text.length; at += size) found.push(...lines.read(text.slice(at, at + size)))
  return lines.unfinished === undefined ? found : [...found, lines.unfinished]
}

test('lines as they come, without what moves the cursor or paints, and the prompt at the end', () => {
  const text = 'SeaBIOS\r\n\u001b[2J\u001b[01;01H[\u001b[0;32m  OK  \u001b[0m] Reached target\r\r\nlogin: '
  for (const size of [1, 7, text.length])
    expect(shown(text, size)).toEqual(['SeaBIOS', '[  OK  ] Reached target', 'login: '])
})

test('of a private key nothing, in lines of its own, in the middle of one, or cut off', async () => {
  const { privateKey } = await generateKeyPair('test', new AbortController().signal)
  const inner = privateKey.split('\n').slice(1, -2)
  expect(inner.length).toBeGreaterThan(3)
  const texts = [
    `before\n${privateKey}after\n`,
    `before\n${privateKey.replaceAll('\n', '\r\n    ')}\nafter\n`,
    `before\nfailed: {'key': '${privateKey.replaceAll('\n', '\\n')}'}\nafter\n`,
    `before\n${privateKey.slice(0, privateKey.indexOf('-----END'))}`,
    `before\n${privateKey.replaceAll('OPENSSH ', 'RSA ')}after\n`,
    `before\n${privateKey.replaceAll('OPENSSH PRIVATE KEY', 'PGP PRIVATE KEY BLOCK')}after\n`,
  ]
  for (const text of texts) {
    for (const size of [3, text.length]) {
      const lines = shown(text, size)
      for (const line of inner) expect(lines.join('\n')).not.toContain(line)
      expect(lines.join('\n')).toContain('(a private key, not shown)')
      expect(lines[0]).toBe('before')
      expect(lines.at(-1)).toBe(text.endsWith('after\n') ? 'after' : '(a private key, not shown)')
    }
  }
})

test('a public key is shown: whoever looks may compare it', () => {
  const text =
    '-----BEGIN SSH HOST KEY KEYS-----\nssh-ed25519 AAAA root@web\n-----END SSH HOST KEY KEYS-----\n'
  expect(shown(text)).toEqual(text.trimEnd().split('\n'))
})

test('no password that cloud-init makes up', () => {
  // As cloud-init 22.4 and 25.1 write it, and the kernel between them.
  const text =
    "Set the following 'random' passwords\n\ndebian:aB3xY9k2Lm4nP5q7RsT8\n[   9.1] web:x.Y-z~!@#$%^&*()9aBc\n[  OK  ] Finished\n"
  expect(shown(text)).toEqual([
    "Set the following 'random' passwords",
    '',
    'debian:(a password, not shown)',
    '[   9.1] web:(a password, not shown)',
    '[  OK  ] Finished',
  ])
  expect(shown("Set the following 'random' passwords\n\ndebian:aB3x")).toEqual([
    "Set the following 'random' passwords",
    '',
  ])
})
