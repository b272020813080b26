import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { execa } from 'execa'
import { expect, test } from 'vitest'

const source = (path: string) => JSON.stringify(resolve(import.meta.dirname, '../../src', path))

/** Watches itself as if it were a lab's daemon, of which the last argument is the folder, while no file can be opened. */
const SCRIPT = `
  import { closeSync, openSync } from 'node:fs'
  import { watchLab } from ${source('cli/lab-end.ts')}
  import { ImagebuildError } from ${source('core/errors.ts')}
  import { isProcess } from ${source('lab/process.ts')}
  import { writeStopped } from ${source('lab/stopped.ts')}

  const dir = process.argv.at(-1)
  const taken = []
  try {
    for (;;) taken.push(openSync('/dev/null'))
  } catch (error) {
    console.log(error.code)
  }
  const lost = new ImagebuildError({ code: 'unreachable', what: 'the connection broke' })
  using watched = watchLab(dir, process.pid, new AbortController().signal)
  console.log(await isProcess(process.pid, dir).catch(({ code }) => code))
  console.log((await watched.explain(lost)).what, watched.ended.aborted)
  for (const fd of taken) closeSync(fd)
  console.log(await isProcess(process.pid, dir), await isProcess(2 ** 22, dir), await isProcess(process.pid, '/other'))
  const ended = new Promise((resolve) => watched.ended.addEventListener('abort', resolve))
  await writeStopped(dir, { pid: process.pid, how: 'SIGTERM' })
  // The timer does not keep a process alive.
  const alive = setInterval(() => {}, 1000)
  if (!watched.ended.aborted) await ended
  clearInterval(alive)
  console.log(watched.ended.reason.what)
`

test('where no file can be opened, a lab is not taken for ended, and its end is seen later', async () => {
  const dir = await mkdtemp(join(tmpdir(), 'imagebuild-lab-end-'))
  try {
    const limited = ['-c', 'ulimit -n 64 && exec "$0" "$@"', process.execPath]
    const { stdout } = await execa('sh', [...limited, '--input-type=module', '--eval', SCRIPT, dir])
    expect(stdout.split('\n')).toEqual([
      'EMFILE',
      'EMFILE',
      'the connection broke false',
      'true false false',
      `the lab in ${dir} ended`,
    ])
  } finally {
    await rm(dir, { recursive: true })
  }
})
