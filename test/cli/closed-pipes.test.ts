import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { projectOnDisk } from '../definition/project-on-disk.ts'

const MAIN = join(import.meta.dirname, '../../src/cli/main.ts')

/** One command line of a shell, where $imagebuild is the program, in a project of one hardened image. */
async function shell(line: string): Promise<{ stdout: string; stderr: string }> {
  await using project = await projectOnDisk({
    'images/a/image.yaml': 'name: a\nsource: { release: debian/12 }\nhardening: cis-l1\n',
  })
  const env = { ...process.env, CI: '', imagebuild: `${process.execPath} ${MAIN}` }
  return await new Promise((resolve, reject) =>
    execFile('bash', ['-c', line], { cwd: project.root, env }, (error, stdout, stderr) =>
      error === null ? resolve({ stdout, stderr }) : reject(error),
    ),
  )
}

describe('a reader that has gone', () => {
  test('of stdout: nothing more is said, and the exit code is that of the command', async () => {
    const { stdout, stderr } = await shell(
      '{ $imagebuild show a --hardening; echo "$?" >&2; } | { exec <&-; sleep 1; }',
    )
    expect({ stdout, stderr }).toEqual({ stdout: '', stderr: '0\n' })
  })

  test('of stderr: the exit code is that of the command', async () => {
    const { stdout } = await shell(
      '{ $imagebuild show nothing; echo "$?" > code; } 2>&1 > /dev/null | { exec <&-; sleep 1; }; cat code',
    )
    expect(stdout).toBe('64\n')
  })
})

test('a full disk below stdout is said, and is no success', async () => {
  const { stderr } = await shell('$imagebuild schema image > /dev/full; echo "$?" >&2')
  expect(stderr).toMatch(/^error: the result cannot be written to stdout: .*ENOSPC.*\n1\n$/)
})
