import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setImmediate } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { Tasks } from '../../../src/lab/api/tasks.ts'

test('a task that is stopped at once lets its work give back what was reserved for it', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'imagebuild-tasks-'))
  try {
    const tasks = new Tasks(folder)
    await tasks.load()
    let reserved = true
    const of = { node: 'lab', type: 'vzcreate', id: '100', user: 'root@pam' }
    const upid = tasks.start(of, async ({ signal }) => {
      try {
        await setImmediate()
        signal.throwIfAborted()
      } finally {
        reserved = false
      }
    })
    tasks.stop(upid)
    await tasks.ended(upid)
    expect(tasks.find(upid).exitstatus).toBe('received interrupt')
    expect(reserved).toBe(false)
  } finally {
    await rm(folder, { recursive: true })
  }
})
