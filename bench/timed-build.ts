import { execa } from 'execa'

/** Parts of a build, in the order of time. */
export const PHASES = [
  'begin',
  'source',
  'create',
  'boot',
  'cloud-init',
  'layers',
  'inventory',
  'seal',
  'shutdown',
  'convert',
  'verify',
  'end',
] as const
export type Phase = (typeof PHASES)[number]

/** One build: wall-clock seconds from the start of its process to its end, and of each phase. */
export interface TimedBuild {
  seconds: number
  phases: Record<Phase, number>
}

/** A program that is timed. `phaseOf` says for a line of its stdout which phase begins with it. */
export interface TimedCommand {
  command: string
  args: readonly string[]
  cwd: string
  env: Record<string, string>
  phaseOf: (line: string) => Phase | undefined
  /** asks it to end; both programs then clean up */
  signal: AbortSignal
}

/** Runs it to its end. @throws Error with the end of its output when it fails */
export async function timeBuild({
  command,
  args,
  cwd,
  env,
  phaseOf,
  signal,
}: TimedCommand): Promise<TimedBuild> {
  const phases = Object.fromEntries(PHASES.map((phase) => [phase, 0])) as Record<Phase, number>
  const lines: string[] = []
  const started = performance.now()
  let phase: Phase = 'begin'
  let since = started
  const enter = (next: Phase | undefined) => {
    const now = performance.now()
    phases[phase] += (now - since) / 1000
    since = now
    phase = next ?? phase
  }
  const running = execa(command, args, {
    cwd,
    env,
    reject: false,
    stdin: 'ignore',
    all: true,
    buffer: false,
    cancelSignal: signal,
    killSignal: 'SIGINT',
    // They clean up first, which may take a while.
    forceKillAfterDelay: 150_000,
  })
  for await (const line of running.iterable({ from: 'all' })) {
    lines.push(line)
    enter(phaseOf(line))
  }
  const { exitCode } = await running
  signal.throwIfAborted()
  enter(undefined)
  if (exitCode !== 0) {
    throw new Error(`${command} ended with exit code ${exitCode}\n${lines.slice(-30).join('\n')}`)
  }
  return { seconds: (performance.now() - started) / 1000, phases }
}
