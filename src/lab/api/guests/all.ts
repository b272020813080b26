import type { Call } from '../router.ts'
import { KINDS } from './kinds.ts'

/** POST /nodes/{node}/startall and stopall. */
export function all(call: Call, action: 'start' | 'stop'): string {
  const { lab } = call
  const wanted = call
    .text('vms')
    ?.split(/[,; ]+/)
    .map(Number)
  return call.task(`${action}all`, '', async (task) => {
    for (const { vmid, type, config } of lab.guests.all()) {
      if (wanted && !wanted.includes(vmid)) continue
      if (!call.allowed(`/vms/${vmid}`, ['VM.PowerMgmt']) || config.template === 1) continue
      const kind = KINDS[type]
      const running = await kind.isRunning(lab, vmid)
      if (action === 'start' && !running && (call.flag('force') || config.onboot === 1)) {
        await kind.start(lab, vmid, task)
      }
      if (action === 'stop' && running) {
        await kind.shutDown(lab, vmid, call.number('timeout') ?? 180, call.flag('force-stop', true), task.log)
      }
    }
  })
}
