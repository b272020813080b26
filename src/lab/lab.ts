import { spawn } from 'node:child_process'
import { constants, existsSync } from 'node:fs'
import { access, open, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { delimiter, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { ImagebuildError } from '../core/errors.ts'
import type { Emit } from '../core/events.ts'
import { lock } from '../core/lock.ts'
import { makeFolder } from '../core/make-folder.ts'
import { poll, withDeadline } from '../core/scope.ts'
import { shellWord } from '../core/shell-word.ts'
import { answering, daemonOf, type LabConnection } from './connection.ts'
import { daemonEnvironment, pathWithSbin } from './environment.ts'
import { closeHost } from './host.ts'
import { labNames } from './names.ts'
import { readNodes, writeNodes } from './nodes.ts'
import { endProcess } from './process.ts'
import type { Major } from './release.ts'
import { labRequirements } from './requirements.ts'
import { readStopped, writeStopped } from './stopped.ts'

export type { LabConnection } from './connection.ts'
export { labRequirements } from './requirements.ts'

const DAEMON = fileURLToPath(new URL('./daemon.ts', import.meta.url))

/** Seconds that a daemon has to serve: making keys and a network takes one, waiting for a predecessor may take more. */
const START_SECONDS = 90

/** Seconds that a daemon has to end its guests and go. */
const STOP_SECONDS = 120

const PATH = pathWithSbin(process.env)

export interface EnsureLabOptions {
  /** the lab's folder */
  dir: string
  signal: AbortSignal
  emit: Emit
  /** where a new daemon listens; default: what its config.json says, else any free port */
  port?: number
  /** major version of the Proxmox VE that it must play; default: what its config.json says, else what it played last */
  pve?: Major
  /** it shall not end by itself */
  stay?: boolean
  /** nodes that it must play; they stay with its folder */
  nodes?: readonly string[]
}

/**
 * The lab on this folder; its daemon is started when none answers. Whoever calls this at the same time, in this
 * process or another, gets the same one.
 * @throws ImagebuildError `prerequisite_missing` without root or a needed program; `unreachable` when it does not start
 */
export async function ensureLab(options: EnsureLabOptions): Promise<LabConnection> {
  const dir = resolve(options.dir)
  const { signal, emit, port, pve, stay, nodes = [] } = options
  let lab = await answering(dir)
  if (lab === undefined) {
    await demandPrerequisites()
    await makeFolder(dir, 0o700)
    await using _ = await lock(join(dir, 'start.lock'), signal)
    lab = await answering(dir)
    if (lab === undefined) {
      emit({ type: 'info', message: `starting the lab in ${dir}` })
      await rm(join(dir, 'stay'), { force: true })
      await addNodes(dir, nodes)
      lab = await startDaemon(dir, { port, pve }, signal)
    }
  }
  if (pve !== undefined) demandRelease(dir, lab, pve)
  if (!plays(lab, nodes)) lab = await withNodes(dir, lab, nodes, signal)
  if (port !== undefined && new URL(lab.endpoint).port !== String(port)) {
    emit({
      type: 'warning',
      message: `the lab already runs, at ${lab.endpoint}: stop it first to change its port`,
    })
  }
  if (stay) await writeFile(join(dir, 'stay'), '')
  return lab
}

/** @throws ImagebuildError `busy` where another is played already, which cannot be changed under its clients */
function demandRelease(dir: string, { pve = '8.4' }: LabConnection, wanted: Major): void {
  if (pve.startsWith(`${wanted}.`)) return
  throw new ImagebuildError({
    code: 'busy',
    what: `the lab in ${dir} runs already, and plays Proxmox VE ${pve}`,
    next: `imagebuild lab stop, then imagebuild lab start --pve ${wanted}`,
  })
}

function plays(lab: LabConnection, nodes: readonly string[]): boolean {
  // One of an earlier version, that still runs, has one node.
  return nodes.every((node) => (lab.nodes ?? [lab.node]).includes(node))
}

async function addNodes(dir: string, nodes: readonly string[]): Promise<void> {
  if (nodes.length > 0) await writeNodes(dir, await readNodes(dir, nodes))
}

/** The same lab, once its daemon has taken in the nodes that it did not play so far. */
async function withNodes(
  dir: string,
  lab: LabConnection,
  nodes: readonly string[],
  signal: AbortSignal,
): Promise<LabConnection> {
  if (lab.nodes === undefined) {
    throw new ImagebuildError({
      code: 'unreachable',
      what: `the lab in ${dir} was started by an earlier imagebuild, and plays one node only`,
      next: 'imagebuild lab stop, and run again',
    })
  }
  await using _ = await lock(join(dir, 'start.lock'), signal)
  await addNodes(dir, nodes)
  process.kill(lab.pid, 'SIGHUP')
  using deadline = withDeadline(signal, START_SECONDS, 'the lab taking in further nodes')
  const complete = async () => {
    const now = await answering(dir)
    return now !== undefined && plays(now, nodes) ? now : undefined
  }
  return await poll(complete, { signal: deadline, first: 20, max: 200 })
}

/**
 * Ends the lab at once, with its guests; also removes what a killed daemon has left. The folder stays.
 * Whoever works on the lab is told that this process has done it.
 * @returns false when there was nothing to stop
 */
export async function stopLab(folder: string): Promise<boolean> {
  const dir = resolve(folder)
  if ((await stat(dir).catch(() => undefined)) === undefined) return false
  if (!isRoot()) throw notRoot()
  process.env.PATH = PATH
  await using _ = await lock(join(dir, 'start.lock'))
  await rm(join(dir, 'stay'), { force: true })
  const pid = await daemonOf(dir)
  if (pid !== undefined) {
    await writeStopped(dir, { pid, how: 'lab stop', by: process.pid })
    await endProcess(pid, dir, STOP_SECONDS)
  }
  // After a daemon that ended in order there is nothing left, and nothing to do.
  const { runtime, lxcPath } = labNames(dir)
  const remains = [runtime, lxcPath].some((path) => existsSync(path))
  if (remains) await closeHost(dir)
  return pid !== undefined || remains
}

export type LabStatus = ({ running: true } & LabConnection) | { running: false }

export async function labStatus(dir: string): Promise<LabStatus> {
  const lab = await answering(resolve(dir))
  return lab === undefined ? { running: false } : { running: true, ...lab }
}

async function startDaemon(
  dir: string,
  options: Readonly<Record<'port' | 'pve', number | undefined>>,
  signal: AbortSignal,
): Promise<LabConnection> {
  const path = join(dir, 'daemon.log')
  await using log = await open(path, 'a', 0o600)
  const { size } = await log.stat()
  const asked = Object.entries(options).flatMap(([name, value]) =>
    value === undefined ? [] : [`--${name}=${value}`],
  )
  const daemon = spawn(process.execPath, [DAEMON, ...asked, dir], {
    detached: true,
    cwd: '/',
    env: daemonEnvironment(process.env),
    stdio: ['ignore', log.fd, log.fd],
  })
  daemon.unref()
  let ended: string | undefined
  daemon.once('error', (error) => {
    ended = error.message
  })
  daemon.once('exit', (code, by) => {
    ended = `its process ended with ${code ?? by}`
  })
  using deadline = withDeadline(signal, START_SECONDS, 'the start of the lab')
  try {
    return await poll(
      async () => {
        if (ended !== undefined) throw new Error(ended)
        const lab = await answering(dir)
        return lab?.pid === daemon.pid ? lab : undefined
      },
      { signal: deadline, first: 20, max: 100 },
    )
  } catch (cause) {
    if (ended === undefined) daemon.kill('SIGTERM')
    signal.throwIfAborted()
    const refused = daemon.pid === undefined ? undefined : (await readStopped(dir, daemon.pid))?.refused
    if (refused !== undefined) throw new ImagebuildError({ ...refused, cause })
    const said = (await readFile(path)).subarray(size).toString().trimEnd().split('\n')
    throw new ImagebuildError({
      code: 'unreachable',
      what: 'the lab does not start',
      why: (cause as Error).message,
      output: said.slice(-20),
      next: `read ${path}`,
      cause,
    })
  }
}

function isRoot(): boolean {
  return process.getuid?.() === 0
}

function notRoot(): ImagebuildError {
  return new ImagebuildError({
    code: 'prerequisite_missing',
    what: 'the lab needs root',
    why: 'it makes a network bridge for its guests, and containers',
    next: `sudo -E imagebuild ${process.argv.slice(2).map(shellWord).join(' ')}`,
  })
}

async function demandPrerequisites(): Promise<void> {
  if (!isRoot()) throw notRoot()
  const missing = new Set<string>()
  for (const { command, package: name } of labRequirements()) {
    if (!(await isThere(command))) missing.add(name)
  }
  if (missing.size === 0) return
  const names = [...missing].sort().join(' ')
  throw new ImagebuildError({
    code: 'prerequisite_missing',
    what: `the lab lacks these Debian packages: ${names}`,
    next: `apt-get update && apt-get install -y --no-install-recommends ${names}`,
  })
}

async function isThere(command: string): Promise<boolean> {
  const paths = command.startsWith('/')
    ? [command]
    : PATH.split(delimiter).map((folder) => join(folder, command))
  const mode = command.startsWith('/') ? constants.R_OK : constants.X_OK
  return (await Promise.allSettled(paths.map((path) => access(path, mode)))).some(
    ({ status }) => status === 'fulfilled',
  )
}
