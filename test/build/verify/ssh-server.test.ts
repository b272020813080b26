import { execa } from 'execa'
import { expect, test } from 'vitest'
import type { Facts } from '../../../src/build/verify/facts.ts'
import { judgeFacts } from '../../../src/build/verify/ssh-server.ts'

/** What is said of an SSH server that was reloaded. */

const SCRIPT = new URL('../../../src/build/verify/ssh-server.sh', import.meta.url).pathname
const GOOD = { enabled: 'ssh.service', reloaded: 'ssh.service', said: '', listens: 'yes' }

const failures = (change: Record<string, string>, refusal?: string) => {
  const facts: Facts = new Map(Object.entries({ ...GOOD, ...change }).map(([name, value]) => [name, [value]]))
  const failed = judgeFacts(facts, refusal).filter(({ outcome }) => outcome === 'failed')
  return Object.fromEntries(failed.map(({ id, found }) => [id, found]))
}

test.each(['sh', 'dash', 'bash'])('the script is one for %s', async (shell) => {
  expect((await execa(shell, ['-n', SCRIPT], { reject: false })).stderr).toBe('')
})

test('a service that listens again, or a socket alone, is fine', () => {
  expect(failures({})).toEqual({})
  // Debian's socket starts its service with the first connection, Ubuntu's too.
  expect(failures({ enabled: 'ssh.socket' })).toEqual({})
  expect(failures({ enabled: 'ssh.socket', reloaded: '', listens: '' })).toEqual({})
})

test('two units are named, with what to do', () => {
  expect(failures({ enabled: 'ssh.service\nssh.socket' })).toEqual({
    'ssh-unit': expect.stringMatching(/^ssh\.service and ssh\.socket are enabled: .*disable one of them/),
  })
})

test('a server that the reload has ended is told in its own words', () => {
  const fatal = 'fatal: Cannot bind any address.'
  expect(failures({ listens: '', said: 'Job for ssh.service failed.', journal: fatal })).toEqual({
    'ssh-reload': `nobody listens after \`systemctl reload ssh.service\`\nJob for ssh.service failed.\n${fatal}`,
  })
})

test('a server that listens and lets nobody in any more is none', () => {
  expect(failures({}, 'Connection refused')).toEqual({
    'ssh-reload': 'nobody gets in any more: Connection refused',
  })
})
