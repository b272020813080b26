import { execFileSync } from 'node:child_process'
import { join } from 'node:path'
import { expect, test } from 'vitest'

/** What a process says of itself at its end. */
const TELL =
  'data:text/javascript,process.on("exit", () => process.stdout.write("umask " + process.umask().toString(8)))'

const entry = (file: string, ...args: string[]) =>
  [
    'exec',
    process.execPath,
    '--import',
    `'${TELL}'`,
    join(import.meta.dirname, '../../src', file),
    ...args,
  ].join(' ')

test.each([
  ['022', 'the program', entry('cli/main.ts', '--version')],
  ['027', 'the program', entry('cli/main.ts', '--version')],
  ['077', 'the program', entry('cli/main.ts', '--version')],
  // Nobody can make a lab there: it ends before it begins.
  ['027', "the lab's daemon", entry('lab/daemon.ts', '/proc/nowhere')],
  ['077', "the lab's daemon", entry('lab/daemon.ts', '/proc/nowhere')],
])('with the umask %s, %s leaves the usual modes to its tools', (umask, _, command) => {
  const said = execFileSync('sh', ['-c', `umask ${umask}; (${command}) 2>/dev/null || true`], {
    encoding: 'utf8',
  })
  expect(said).toContain('umask 22')
})
