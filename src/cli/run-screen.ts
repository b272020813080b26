import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { createBus, type Emit, type Sink } from '../core/events.ts'
import { buildFolder } from './folders.ts'
import { grouped, isOnGitHub } from './github-log.ts'
import type { Invocation } from './invocation.ts'
import { LeftBehind } from './left-behind.ts'
import { eventJson, eventLines, tell, terminal, workflowCommands } from './output.ts'
import { jsonRenderer, logFile, plainRenderer } from './render.ts'
import { sayOnce } from './say-once.ts'
import { Silence } from './silence.ts'
import { StepTimes } from './step-times.ts'
import { tellPauses } from './tell-pauses.ts'
import { TerminalRenderer } from './terminal.ts'

/** Where builds show what they do: a terminal, a log that others read, or NDJSON; and a log file of their own. */
export interface RunScreen extends AsyncDisposable {
  emit: Emit
  /** says where the log is, if there is one, and is needed; once all is over */
  tellLog(isNeeded: boolean): void
  /** what could not be removed, for the end */
  left(): string
}

/** @param called for the log file */
export function openScreen(
  invocation: Invocation,
  { root, target, called, json }: { root: string; target: string; called: string; json: boolean },
): RunScreen {
  const when = new Date().toISOString().replaceAll(':', '')
  const logPath = join(buildFolder(root), 'logs', `${when}-${called}.log`)
  const log = logFile(logPath)
  const live = !json && terminal().isTTY ? new TerminalRenderer(terminal()) : undefined
  const times = new StepTimes(join(buildFolder(root), 'step-seconds.json'), target)
  const plain = plainRenderer(eventLines)
  const screenOf = live?.sink ?? (isOnGitHub() ? grouped(plain, workflowCommands) : plain)
  const silence = new Silence(sayOnce(screenOf))
  const screen: Sink = json ? jsonRenderer(eventJson) : silence.sink
  const left = new LeftBehind()
  const emit = createBus(invocation.secrets, [log, times.told(screen), left.sink])
  invocation.say = (message) => emit({ type: 'info', message })
  const pauses = tellPauses(emit)
  return {
    emit,
    left: () => left.text(),
    tellLog: (isNeeded) => {
      if (isNeeded && existsSync(logPath)) tell(`the whole log: ${logPath}\n`)
    },
    async [Symbol.asyncDispose]() {
      pauses[Symbol.dispose]()
      silence[Symbol.dispose]()
      live?.[Symbol.dispose]()
      times.save()
      await log.close()
    },
  }
}
