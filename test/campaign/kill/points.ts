import type { Event } from '../../../src/core/events.ts'
import { parseEvents } from '../../e2e/harness.ts'
import type { Call } from '../proxy.ts'
import type { Ground } from './ground.ts'

/** Where a command can be killed: at each call that changes something, and between them. */
export interface Point {
  /** before the server gets a call, after it has answered it, or when the command says something */
  at: 'before' | 'after' | 'event'
  /** the how many-th of these calls, or events */
  n: number
  label: string
  /** of the build */
  step: string
  /** which calls are counted; all that change something, when missing */
  match?: (call: Call) => boolean
  /** which events are counted; beginnings of steps and what a layer prints, when missing */
  event?: (event: Event) => boolean
}

/** What a layer prints in its middle. */
export const BEGUN = 'begun'

export interface Killed {
  /** false: the command was over before it got there */
  reached: boolean
  exitCode: number | undefined
  stdout: string
  stderr: string
}

export function isWrite({ method }: Call): boolean {
  return method !== 'GET' && method !== 'HEAD'
}

function isPlace(event: Event): boolean {
  return event.type === 'step.start' || (event.type === 'output' && event.line === BEGUN)
}

/** Lets a command run to its end, and gives all points of it. */
export async function pointsOf(ground: Ground, args: readonly string[]): Promise<Point[]> {
  const points: Point[] = []
  let step = 'begin'
  let writes = 0
  let events = 0
  ground.trap = {
    decide: (call) => {
      if (isWrite(call)) {
        writes += 1
        const label = `${call.method} ${call.path.replaceAll(/\/\d+(?=\/|$)/g, '/N')}`
        for (const at of ['before', 'after'] as const) points.push({ at, n: writes, label, step })
      }
      return 'pass'
    },
  }
  const running = ground.through(args)
  onEvents(running, (event) => {
    if (!isPlace(event)) return
    events += 1
    const label = event.type === 'step.start' ? event.label : BEGUN
    if (event.type === 'step.start') step = event.step
    points.push({ at: 'event', n: events, label, step })
  })
  const { exitCode, stderr, stdout } = await running
  ground.trap = {}
  if (exitCode !== 0)
    throw new Error(`${args.join(' ')} ends with ${exitCode}:\n${stderr}\n${stdout.slice(-2000)}`)
  return points
}

/** Runs a command through the proxy and kills it with SIGKILL at a point. The lab lives on. */
export async function killAt(ground: Ground, args: readonly string[], point: Point): Promise<Killed> {
  let reached = false
  let count = 0
  let marked: Call | undefined
  const running = ground.through(args)
  const kill = async () => {
    reached = true
    running.kill('SIGKILL')
    await running
  }
  ground.trap = {
    decide: async (call) => {
      if (point.at === 'event' || !(point.match ?? isWrite)(call)) return 'pass'
      count += 1
      if (count !== point.n) return 'pass'
      marked = call
      if (point.at === 'after') return 'pass'
      await kill()
      return 'reset-before'
    },
    answered: async (call) => {
      if (call !== marked) return undefined
      await kill()
      return 'reset'
    },
  }
  if (point.at === 'event') {
    onEvents(running, (event) => {
      if (!(point.event ?? isPlace)(event)) return
      count += 1
      if (count === point.n) void kill()
    })
  }
  const { exitCode, stdout, stderr } = await running
  ground.trap = {}
  return { reached, exitCode, stdout, stderr }
}

function onEvents(running: ReturnType<Ground['through']>, see: (event: Event) => void): void {
  let rest = ''
  running.stdout.on('data', (chunk: Buffer | string) => {
    const lines = (rest + chunk).split('\n')
    rest = lines.pop() ?? ''
    for (const event of parseEvents(lines.filter((line) => line.startsWith('{')).join('\n'))) see(event)
  })
}
