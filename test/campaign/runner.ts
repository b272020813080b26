import { globSync } from 'node:fs'
import { readFile, writeFile } from 'node:fs/promises'
import type { Event, RunResult } from '../../src/core/events.ts'
import { parseEvents } from '../e2e/harness.ts'
import type { Ground } from './kill/ground.ts'

/** A runner that can be stopped as a whole, or has a clock of its own, or cannot see whether others live. */
export interface Runner extends Disposable {
  /** what it has said so far */
  readonly events: readonly Event[]
  /** the first event of that kind, past or to come */
  until(matches: (event: Event) => boolean): Promise<Event>
  /** SIGSTOP to all of its processes; when this resolves, they stand */
  stop(): Promise<void>
  /** SIGCONT */
  goOn(): void
  readonly ended: Promise<Ended>
}

export interface Ended {
  exitCode: number
  result: RunResult
  stderr: string
}

export interface RunnerOptions {
  target: 'direct' | 'proxied'
  args?: readonly string[]
  /** in a PID namespace of its own: neither it nor others can tell whether the other's process lives */
  apart?: boolean
  /** clock of the runner and what it starts; the lab's is the machine's */
  clock?: Clock
}

/** `run <image> --json` on a ground. */
export function startRunner(ground: Ground, { target, args = [], apart, clock }: RunnerOptions): Runner {
  const running = ground.project.imagebuild(['run', ground.image, '--json', ...args], {
    env: { ...ground.environment(target), ...clock?.env },
    within: apart ? ['unshare', '--pid', '--fork', '--mount-proc', '--kill-child'] : [],
    group: true,
  })
  const pid = running.pid as number
  const events: Event[] = []
  const waiting = new Set<() => void>()
  let rest = ''
  running.stdout.on('data', (chunk: Buffer) => {
    const lines = (rest + chunk).split('\n')
    rest = lines.pop() ?? ''
    events.push(...parseEvents(lines.join('\n')))
    for (const look of [...waiting]) look()
  })
  let isOver = false
  const ended = running.then(({ exitCode, stdout, stderr }): Ended => {
    isOver = true
    const last = parseEvents(stdout).at(-1)
    if (last?.type !== 'run.end') throw new Error(`no run.end; exit ${exitCode}\n${stderr}`)
    return { exitCode: exitCode ?? -1, result: last.results[0] as RunResult, stderr }
  })
  ended.catch(() => {})
  return {
    events,
    until: async (matches) => {
      const { promise, resolve, reject } = Promise.withResolvers<Event>()
      const look = () => {
        const found = events.find(matches)
        if (found !== undefined) resolve(found)
      }
      waiting.add(look)
      look()
      ended.then(
        ({ stderr }) => reject(new Error(`it ended before that happened:\n${stderr}`)),
        (error: Error) => reject(error),
      )
      return await promise.finally(() => waiting.delete(look))
    },
    stop: async () => {
      process.kill(-pid, 'SIGSTOP')
      while ((await stateOf(pid)) !== 'T') await new Promise((resolve) => setTimeout(resolve, 5))
    },
    goOn: () => void process.kill(-pid, 'SIGCONT'),
    ended,
    // What stands still would stand for ever where a test has failed.
    [Symbol.dispose]: () => {
      if (!isOver) process.kill(-pid, 'SIGKILL')
    },
  }
}

/** Field 3 of /proc/<pid>/stat (proc(5)): T is stopped. */
async function stateOf(pid: number): Promise<string | undefined> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8')
  return stat.slice(stat.lastIndexOf(')') + 2)[0]
}

/** Clocks that are some seconds from the machine's. */
export interface Clock {
  env: Record<string, string>
  set(seconds: number): Promise<void>
}

/**
 * @param file where libfaketime reads how far off they are, each time that it is asked
 * @param kind `wall`: the monotonic clock is true
 */
export async function makeClock(file: string, kind: 'wall' | 'both'): Promise<Clock> {
  const [library] = globSync('/usr/lib/*/faketime/libfaketimeMT.so.1')
  if (library === undefined) throw new Error('libfaketime is missing (apt-get install faketime)')
  const set = (to: number) => writeFile(file, `${to < 0 ? '' : '+'}${to}\n`)
  await set(0)
  return {
    env: {
      LD_PRELOAD: library,
      FAKETIME_TIMESTAMP_FILE: file,
      FAKETIME_NO_CACHE: '1',
      FAKETIME_DONT_FAKE_MONOTONIC: kind === 'wall' ? '1' : '0',
      NO_FAKE_STAT: '1',
    },
    set,
  }
}
