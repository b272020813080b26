import { splitList } from './formats.ts'
import { boolean, formatted, integer, oneOf, optional, string } from './parameters.ts'
import { Answer, type Call, del, get, type Route, VMID } from './router.ts'
import type { TaskRecord } from './tasks.ts'

/** /nodes/{node}/tasks and /cluster/tasks */

/** lines of a log that one call gives, unless asked for more */
const LOG_LIMIT = 50
const LIST_LIMIT = 50

/** One's own (a user's tokens' too), or all for who may audit the node. */
function mayRead(call: Call, task: TaskRecord): boolean {
  const owner = task.user.split('!', 1)[0]
  const own = call.caller.token ? task.user === call.caller.authid : owner === call.caller.userid
  return own || call.allowed(`/nodes/${task.node}`, ['Sys.Audit'])
}

function readable(call: Call): TaskRecord {
  const task = call.lab.tasks.find(call.need('upid'), call.lab.node)
  if (!mayRead(call, task)) call.require(`/nodes/${call.lab.node}`, ['Sys.Audit'])
  return task
}

function status(call: Call): unknown {
  const { exitstatus, endtime: _endtime, ...task } = readable(call)
  const running = call.lab.tasks.isRunning(task.upid)
  const [user, tokenid] = task.user.split('!', 2)
  return {
    ...task,
    user,
    ...(tokenid !== undefined && { tokenid }),
    status: running ? 'running' : 'stopped',
    ...(!running && { exitstatus }),
  }
}

async function log(call: Call): Promise<Answer> {
  const { tasks, node } = call.lab
  const upid = call.need('upid')
  const lines = upid.startsWith(`UPID:${node}:`) ? await tasks.log(upid) : undefined
  if (!lines) return new Answer({ n: 1, t: 'unable to open file - No such file or directory' }, { total: 1 })
  readable(call)
  if (lines.length === 0) return new Answer([{ n: 1, t: 'no content' }], { total: 1 })
  const start = call.number('start') ?? 0
  const limit = call.number('limit') ?? LOG_LIMIT
  const numbered = lines.map((t, index) => ({ n: index + 1, t }))
  return new Answer(limit === 0 ? numbered.slice(start) : numbered.slice(start, start + limit), {
    total: lines.length,
  })
}

function kindOf(task: TaskRecord): string {
  if (task.exitstatus === undefined) return 'unknown'
  if (task.exitstatus === 'OK') return 'ok'
  return task.exitstatus.startsWith('WARNINGS') ? 'warning' : 'error'
}

/** A row of a task list, whose `status` is what elsewhere is called exit status. */
function row(call: Call, task: TaskRecord): Record<string, unknown> {
  const { exitstatus, ...fields } = task
  const running = call.lab.tasks.isRunning(task.upid)
  return { ...fields, ...(running ? { status: 'RUNNING', saved: '0' } : { status: exitstatus }) }
}

function list(call: Call): Answer {
  const source = call.text('source') ?? 'archive'
  const kinds = splitList(call.text('statusfilter') ?? '')
  const since = call.number('since') ?? 0
  const until = call.number('until') ?? Number.POSITIVE_INFINITY
  const matching = call.lab.tasks
    .list()
    .filter((task) => task.node === call.lab.node)
    .filter((task) => source === 'all' || (source === 'active') === call.lab.tasks.isRunning(task.upid))
    .filter((task) => mayRead(call, task))
    .filter((task) => !call.has('vmid') || task.id === call.text('vmid'))
    .filter((task) => !call.has('typefilter') || task.type === call.text('typefilter'))
    .filter((task) => task.user.includes(call.text('userfilter') ?? ''))
    .filter((task) => task.starttime >= since && task.starttime <= until)
    .filter((task) => !call.flag('errors') || kindOf(task) === 'error')
    .filter((task) => kinds.length === 0 || kinds.includes(kindOf(task)))
  const start = call.number('start') ?? 0
  const limit = call.number('limit') ?? LIST_LIMIT
  const page = matching.slice(start, limit === 0 ? undefined : start + limit)
  return new Answer(
    page.map((task) => row(call, task)),
    { total: matching.length },
  )
}

export const TASK_ROUTES: readonly Route[] = [
  get(
    '/nodes/{node}/tasks',
    'all',
    {
      errors: optional(boolean()),
      limit: optional(integer({ minimum: 0 })),
      since: optional(integer()),
      source: optional(oneOf('archive', 'active', 'all')),
      start: optional(integer({ minimum: 0 })),
      statusfilter: optional(formatted('status-list')),
      typefilter: optional(string()),
      until: optional(integer()),
      userfilter: optional(string()),
      vmid: optional(VMID),
    },
    list,
  ),
  get('/nodes/{node}/tasks/{upid}', 'all', {}, () => [{ name: 'log' }, { name: 'status' }], { local: true }),
  del('/nodes/{node}/tasks/{upid}', 'all', {}, async (call) => {
    const task = call.lab.tasks.find(call.need('upid'), call.lab.node)
    if (task.user !== call.caller.authid) call.require(`/nodes/${call.lab.node}`, ['Sys.Modify'])
    call.lab.tasks.stop(task.upid)
    await call.lab.tasks.ended(task.upid, 5)
    return null
  }),
  get('/nodes/{node}/tasks/{upid}/status', 'all', {}, status),
  get(
    '/nodes/{node}/tasks/{upid}/log',
    'all',
    {
      download: optional(boolean()),
      limit: optional(integer({ minimum: 0 })),
      start: optional(integer({ minimum: 0 })),
    },
    log,
  ),
  get('/cluster/tasks', 'all', {}, (call) =>
    call.lab.tasks
      .list()
      .filter((task) => mayRead(call, task))
      .slice(0, LIST_LIMIT)
      .map((task) => ({ saved: '1', ...row(call, task) })),
  ),
]
