import { asImagebuildError, ImagebuildError } from '../../core/errors.ts'
import { createBus } from '../../core/events.ts'
import { withDeadline } from '../../core/scope.ts'
import { runningLab } from '../../lab/connection.ts'
import { ensureLab, labStatus as readStatus, stopLab } from '../../lab/lab.ts'
import { connect } from '../../pve/client.ts'
import { confirm, isTerminal } from '../confirm.ts'
import { labFolder } from '../folders.ts'
import type { Invocation } from '../invocation.ts'
import { describeUse, type LabUse, labUse } from '../lab-use.ts'
import { eventLines, print, printJson, tell } from '../output.ts'
import { installMissing, LAB_HOST } from '../prerequisites.ts'
import { plainRenderer } from '../render.ts'

/** Seconds that the lab has to say what it is used for. */
const USE_SECONDS = 15

/** Starts the lab, or finds it running, and says how to reach it. */
export async function labStart(
  invocation: Invocation,
  options: { port?: number; pve?: '8' | '9'; json: boolean },
): Promise<void> {
  const emit = createBus(invocation.secrets, [plainRenderer(eventLines)])
  await installMissing(LAB_HOST, emit)
  const lab = await ensureLab({
    dir: labFolder(),
    signal: invocation.signal,
    emit,
    ...(options.port !== undefined && { port: options.port }),
    ...(options.pve !== undefined && { pve: options.pve === '8' ? 8 : 9 }),
    stay: true,
  })
  if (options.json) {
    printJson(lab)
    return
  }
  print(
    `endpoint     ${lab.endpoint}\nplays        ${played(lab)}\ntoken        ${lab.token}\nfingerprint  ${lab.fingerprint}\nnodes        ${lab.nodes.join(', ')}\n`,
  )
  tell('stop it with: imagebuild lab stop\n')
}

/** One that an earlier imagebuild has started says nothing. */
const played = ({ pve = '8.4' }: { pve?: string }) => `Proxmox VE ${pve}`

/** Ends the lab. Whoever uses it at this moment is named first; only a person, or --force, ends a build. */
export async function labStop(invocation: Invocation, options: { force: boolean }): Promise<void> {
  const folder = labFolder()
  if (!options.force) await requireConsent(invocation, folder)
  const stopped = await stopLab(folder)
  tell(stopped ? 'the lab is stopped; its templates stay in its folder\n' : 'no lab is running\n')
}

/** @throws ImagebuildError `busy` where it shall go on */
async function requireConsent(invocation: Invocation, folder: string): Promise<void> {
  const use = await usedFor(invocation, folder)
  const lines = use === undefined ? [] : describeUse(use)
  if (use === undefined || lines.length === 0) return
  const list = lines.map((line) => `  ${line}\n`).join('')
  if (isTerminal()) {
    tell(`stopping the lab in ${folder} ends\n${list}`)
    if (await confirm(invocation, 'stop it?')) return
    throw new ImagebuildError({ code: 'busy', what: 'the lab goes on running' })
  }
  if (use.builds.length === 0 && use.tasks.length === 0) {
    tell(`with the lab in ${folder} end\n${list}`)
    return
  }
  throw new ImagebuildError({
    code: 'busy',
    what: `the lab in ${folder} is in use, and goes on running`,
    why: `stopping it would end\n${lines.join('\n')}`,
    next: 'stop it later, or with all that: imagebuild lab stop --force',
  })
}

/** Undefined where no lab runs, or it does not say: one that does not answer is of use to nobody. */
async function usedFor({ signal }: Invocation, folder: string): Promise<LabUse | undefined> {
  const lab = await runningLab(folder)
  if (lab === undefined) return undefined
  using patience = withDeadline(signal, USE_SECONDS, 'asking the lab what it is used for')
  try {
    await using pve = await connect({
      endpoint: lab.endpoint,
      auth: { kind: 'token', token: lab.token },
      tls: { fingerprint: lab.fingerprint },
      signal: patience,
    })
    return await labUse(pve, Number(new URL(lab.endpoint).port), [lab.pid, process.pid])
  } catch (error) {
    signal.throwIfAborted()
    tell(`the lab does not say what it is used for: ${asImagebuildError(error).message}\n`)
    return undefined
  }
}

export async function labStatus(_invocation: Invocation, options: { json: boolean }): Promise<void> {
  const status = await readStatus(labFolder())
  if (options.json) printJson(status)
  else
    print(
      status.running
        ? `running at ${status.endpoint} as ${played(status)} (pid ${status.pid}), folder ${labFolder()}\n`
        : `not running, folder ${labFolder()}\n`,
    )
}
