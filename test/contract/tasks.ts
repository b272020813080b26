import type { Client } from './client.ts'
import { isOwnVmid, taskId } from './own.ts'
import { pause, read, type Server } from './server.ts'

/** seconds that a task is given before it is stopped, and to end then */
const TASK_SECONDS = 20

/** Lets tasks for the suite's guests end, or stops them: nothing may be made any more while things are removed. */
export async function endTasks({ own, client, nodes }: Server): Promise<void> {
  for (const node of nodes) {
    const running = await read<{ upid: string }[]>(client, `/nodes/${node}/tasks?source=active&limit=500`)
    for (const { upid } of running.filter((task) => isOwnVmid(own, Number(taskId(task.upid))))) {
      if (await hasEnded(client, node, upid, TASK_SECONDS)) continue
      await client.delete(`/nodes/${node}/tasks/${encodeURIComponent(upid)}`)
      await hasEnded(client, node, upid, TASK_SECONDS)
    }
  }
}

export async function hasEnded(
  client: Client,
  node: string,
  upid: string,
  seconds: number,
): Promise<boolean> {
  for (const until = performance.now() + seconds * 1000; performance.now() < until; await pause()) {
    const path = `/nodes/${node}/tasks/${encodeURIComponent(upid)}/status`
    const { status } = await read<{ status: string }>(client, path)
    if (status === 'stopped') return true
  }
  return false
}
