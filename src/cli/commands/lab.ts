import { createBus } from '../../core/events.ts'
import { ensureLab, labStatus as readStatus, stopLab } from '../../lab/lab.ts'
import { labFolder } from '../folders.ts'
import type { Invocation } from '../invocation.ts'
import { installMissing, LAB_HOST } from '../prerequisites.ts'
import { plainRenderer } from '../render.ts'

/** Starts the lab, or finds it running, and says how to reach it. */
export async function labStart(
  invocation: Invocation,
  options: { port?: number; json: boolean },
): Promise<void> {
  const emit = createBus(invocation.secrets, [plainRenderer(process.stderr)])
  await installMissing(LAB_HOST, emit)
  const lab = await ensureLab({
    dir: labFolder(),
    signal: invocation.signal,
    emit,
    ...(options.port !== undefined && { port: options.port }),
    stay: true,
  })
  if (options.json) {
    process.stdout.write(`${JSON.stringify(lab, undefined, 2)}\n`)
    return
  }
  process.stdout.write(
    `endpoint     ${lab.endpoint}\ntoken        ${lab.token}\nfingerprint  ${lab.fingerprint}\nnodes        ${lab.nodes.join(', ')}\n`,
  )
  process.stderr.write('stop it with: imagebuild lab stop\n')
}

export async function labStop(_invocation: Invocation): Promise<void> {
  const stopped = await stopLab(labFolder())
  process.stderr.write(
    stopped ? 'the lab is stopped; its templates stay in its folder\n' : 'no lab is running\n',
  )
}

export async function labStatus(_invocation: Invocation, options: { json: boolean }): Promise<void> {
  const status = await readStatus(labFolder())
  if (options.json) process.stdout.write(`${JSON.stringify(status, undefined, 2)}\n`)
  else
    process.stdout.write(
      status.running
        ? `running at ${status.endpoint} (pid ${status.pid}), folder ${labFolder()}\n`
        : `not running, folder ${labFolder()}\n`,
    )
}
