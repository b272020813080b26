import type { Answer, Call, Decision, ProxyOptions } from './proxy.ts'

/**
 * What can go wrong with one call to Proxmox. Calls are known by what they are and how often that was asked before in
 * the same run: `POST /nodes/lab/lxc #1`.
 */

export type Fault =
  | 'answered 500'
  | 'answered 596'
  | '596 after it was done'
  | 'reset before'
  | 'reset after it was done'
  | 'expired ticket'
  | 'task fails'
  | 'task out of sight'

export interface Point {
  key: string
  fault: Fault
}

const READ: readonly Fault[] = [
  'answered 500',
  'answered 596',
  'reset before',
  'reset after it was done',
  'expired ticket',
]
const WRITE: readonly Fault[] = [...READ, '596 after it was done']
const TASK: readonly Fault[] = ['task fails', 'task out of sight']
/** Answered, or not, by what lies between. */
const UNHEARD: readonly Fault[] = ['answered 500', 'answered 596', 'reset before', 'expired ticket']

/** More than one request is repeated. */
const LOOKS = 8

/** What is asked again and again until something has happened: how often is chance. */
const POLLED = /^GET .*(\/status|\/log|\/status\/current|\/vncwebsocket)$/

/** The parts of a path that are another one in each run are left out. */
export function describeCall({ method, path, query }: Call): string {
  const plain = path
    .replace(/UPID:[^:]*:[^:]*:[^:]*:[^:]*:([^:]*):[^/]*/, '{$1}')
    .replace(/\/(qemu|lxc)\/\d+/, '/$1/{vmid}')
    .replace(/(\/content)\/.+$/, '$1/{volume}')
  const about = query.get('typefilter') ?? query.get('content') ?? query.get('type')
  return `${method} ${plain}${about === null ? '' : ` (${about})`}`
}

/** Whose answer names a task. */
function upidOf({ body }: Answer): string | undefined {
  const data = (body as { data?: unknown } | undefined)?.data
  return typeof data === 'string' && data.startsWith('UPID:') ? data : undefined
}

/** Sits in a proxy: writes down what one run asks, and spoils one call of it. */
export class Spoiler implements Pick<ProxyOptions, 'decide' | 'answered'> {
  /** what was asked, in order; whether Proxmox heard it, and whether a task came back */
  readonly seen: { key: string; isHeard: boolean; isTask: boolean }[] = []
  reached = false
  readonly #counts = new Map<string, number>()
  readonly #keys = new Map<Call, string>()
  #point: Point | undefined
  #task: string | undefined
  #looks = 0

  /** From here on another run is looked at. */
  expect(point: Point | undefined): void {
    this.#point = point
    this.#task = undefined
    this.#looks = 0
    this.reached = false
    this.seen.length = 0
    this.#counts.clear()
    this.#keys.clear()
  }

  readonly decide = (call: Call): Decision => {
    const what = describeCall(call)
    const count = (this.#counts.get(what) ?? 0) + 1
    this.#counts.set(what, count)
    const key = `${what} #${count}`
    this.#keys.set(call, key)
    const seen = { key, isHeard: true, isTask: false }
    this.seen.push(seen)
    if (this.#task !== undefined && this.#point?.fault === 'task out of sight') {
      const isLook = call.path.endsWith(`/${this.#task}/status`)
      if (isLook && this.#looks++ < LOOKS) return 'reset-before'
    }
    if (key !== this.#point?.key) return 'pass'
    seen.isHeard = !UNHEARD.includes(this.#point.fault)
    switch (this.#point.fault) {
      case 'answered 500':
        return this.#spoilt({ status: 500, reason: 'got no worker for it', body: { data: null } })
      case 'answered 596':
        return this.#spoilt({ status: 596, reason: 'Broken pipe' })
      case 'reset before':
        return this.#spoilt('reset-before')
      case 'reset after it was done':
        return this.#spoilt('reset-after')
      case 'expired ticket':
        return this.#spoilt({ status: 401, reason: 'permission denied - invalid PVE ticket' })
      default:
        return 'pass'
    }
  }

  readonly answered = (call: Call, answer: Answer): Answer | undefined => {
    const key = this.#keys.get(call)
    const upid = call.method === 'GET' ? undefined : upidOf(answer)
    const seen = this.seen.find((one) => one.key === key)
    if (seen !== undefined && upid !== undefined) seen.isTask = true
    if (key === this.#point?.key) {
      if (this.#point?.fault === '596 after it was done')
        return this.#spoilt({ status: 596, reason: 'Broken pipe' })
      if (upid !== undefined && TASK.includes(this.#point?.fault as Fault)) {
        this.#task = upid
        this.reached = true
      }
    }
    if (this.#point?.fault === 'task fails' && this.#task !== undefined)
      return failed(call, answer, this.#task)
    return undefined
  }

  #spoilt<T>(what: T): T {
    this.reached = true
    return what
  }
}

/** The task's end, as if its very last step had gone wrong. */
function failed({ path }: Call, answer: Answer, upid: string): Answer | undefined {
  if (!path.endsWith(`/${upid}/status`)) return undefined
  const { data } = answer.body as { data: { status: string; exitstatus?: string } }
  if (data.status !== 'stopped') return undefined
  return { ...answer, body: { data: { ...data, exitstatus: 'unable to finish: input/output error' } } }
}

/** Every fault that can happen to what a run without faults has asked. */
export function pointsOf(seen: readonly { key: string; isTask: boolean }[]): Point[] {
  const points: Point[] = []
  for (const { key, isTask } of seen) {
    const [what = '', count] = key.split(' #')
    if (POLLED.test(what) && count !== '1') continue
    const faults = key.startsWith('GET ') ? READ : [...WRITE, ...(isTask ? TASK : [])]
    for (const fault of faults) points.push({ key, fault })
  }
  return points
}

/** What CI does: of writes whose answer is lost, as many; of each other fault one; from all over the run. */
export function sampleOf(points: readonly Point[], writes: number): Point[] {
  const isLost = ({ key, fault }: Point) => !key.startsWith('GET ') && fault === 'reset after it was done'
  const others = points.filter((point) => !isLost(point))
  const faults = [...new Set(others.map(({ fault }) => fault))]
  return [
    ...spread(points.filter(isLost), writes),
    // Each from another part of the run.
    ...faults.flatMap((fault, index) => {
      const those = others.filter((point) => point.fault === fault)
      return those.slice(Math.floor((those.length * index) / faults.length)).slice(0, 1)
    }),
  ]
}

/** So many of them, at equal distances. */
function spread<T>(all: readonly T[], count: number): T[] {
  const step = Math.max(1, all.length / count)
  return all.filter((_, index) => Math.floor(index / step) !== Math.floor((index - 1) / step))
}

export type Outcome = 'recovered' | 'clean error' | 'violation' | 'not reached'

/** `fault → outcome → how often`, as a table. */
export function tableOf(rows: readonly { point: Point; outcome: Outcome }[]): string {
  const outcomes: Outcome[] = ['recovered', 'clean error', 'violation', 'not reached']
  const line = (name: string, numbers: (number | string)[]) =>
    `${name.padEnd(26)}${numbers.map((one) => String(one).padStart(13)).join('')}`
  const count = (some: readonly { outcome: Outcome }[]) => [
    some.length,
    ...outcomes.map((outcome) => some.filter((row) => row.outcome === outcome).length),
  ]
  const faults = [...new Set([...WRITE, ...TASK])]
  return [
    line('fault', ['calls', ...outcomes]),
    ...faults.map((fault) => line(fault, count(rows.filter(({ point }) => point.fault === fault)))),
    line('all', count(rows)),
  ].join('\n')
}
