import { createHash } from 'node:crypto'
import { cp, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { execa } from 'execa'
import type { Event, RunResult } from '../../src/core/events.ts'
import { labStatus } from '../../src/lab/lab.ts'
import { connect, type Pve } from '../../src/pve/client.ts'

/**
 * Real builds through the real command line. All end-to-end tests of a checkout share one lab folder, and run one after
 * the other. All checkouts share one cache, so that a system is bootstrapped once.
 */
export const ROOT = resolve(import.meta.dirname, '../..')
export const LAB_DIR =
  process.env.IMAGEBUILD_TEST_LAB_DIR ?? join(tmpdir(), `imagebuild-e2e-lab-${shortHash(ROOT)}`)
export const CACHE_DIR = process.env.IMAGEBUILD_CACHE_DIR ?? join(tmpdir(), 'imagebuild-e2e-cache')

/** The system that nearly all tests share, current Debian: bootstrapped by the first of them, in the cache for the others. */
export const SYSTEM = {
  ...({ distribution: 'debian', suite: 'trixie' } as const),
  arch: process.arch === 'arm64' ? 'arm64' : 'amd64',
} as const
export const BOOTSTRAP = bootstrap(SYSTEM.suite)

/** Debian 12 for those that build it, each kind of guest once: it is supported, too. */
export const DEBIAN_12 = { ...SYSTEM, suite: 'bookworm' } as const
export const BOOTSTRAP_DEBIAN_12 = bootstrap(DEBIAN_12.suite)

function shortHash(text: string): string {
  return createHash('sha256').update(text).digest('hex').slice(0, 8)
}

function bootstrap(suite: string): string {
  return `source: { bootstrap: { distribution: debian, suite: ${suite} } }`
}

export interface Project extends AsyncDisposable {
  root: string
  /** (re)writes files below the project's folder */
  write(files: Record<string, string>): Promise<void>
  imagebuild(args: readonly string[], options?: Options): Running
  /** `run --json`: its events and its result */
  run(
    args: readonly string[],
    options?: Options,
  ): Promise<{ exitCode: number; events: Event[]; result: RunResult; stderr: string }>
}

interface Options {
  env?: Record<string, string>
  /** a command that runs it, such as `unshare --pid …` */
  within?: readonly string[]
  /** in a process group of its own, whose id is the process's */
  group?: boolean
}

export type Running = ReturnType<typeof start>

function start(args: readonly string[], cwd: string, { env, within = [], group = false }: Options) {
  const [command, ...rest] = [...within, join(ROOT, 'imagebuild'), ...args] as [string, ...string[]]
  return execa(command, rest, {
    cwd,
    reject: false,
    stdin: 'ignore',
    detached: group,
    extendEnv: true,
    env: {
      IMAGEBUILD_LAB_DIR: LAB_DIR,
      IMAGEBUILD_CACHE_DIR: CACHE_DIR,
      NO_COLOR: '1',
      CI: '',
      IMAGEBUILD_VERIFY: 'off',
      ...env,
    },
  })
}

/** A project in a folder of its own, with the shipped cloud-init fragments and the given files. */
export async function makeProject(files: Record<string, string>): Promise<Project> {
  const root = await mkdtemp(join(tmpdir(), 'imagebuild-e2e-project-'))
  await cp(join(ROOT, 'cloud-init'), join(root, 'cloud-init'), { recursive: true })
  const project: Project = {
    root,
    write: async (changed) => {
      for (const [path, content] of Object.entries(changed)) {
        await mkdir(join(root, path, '..'), { recursive: true })
        await writeFile(join(root, path), content)
      }
    },
    imagebuild: (args, options = {}) => start(args, root, options),
    run: async (args, options = {}) => {
      const { exitCode, stdout, stderr } = await start(['run', '--json', ...args], root, options)
      const events = parseEvents(stdout)
      const last = events.at(-1)
      if (last?.type !== 'run.end')
        throw new Error(`no run.end; exit ${exitCode}\n${stderr}\n${stdout.slice(-3000)}`)
      return { exitCode: exitCode ?? -1, events, result: last.results[0] as RunResult, stderr }
    },
    [Symbol.asyncDispose]: () => rm(root, { recursive: true, force: true }),
  }
  await project.write({
    'imagebuild.yaml':
      'namespace: e2e\ntarget: lab\ntargets:\n  lab: { kind: lab }\n  thin: { kind: lab, storages: { disks: local-lvm, images: local } }\n',
    ...files,
  })
  return project
}

export function parseEvents(text: string): Event[] {
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as Event)
}

/** Waits until a running command has said something; it runs on. */
export async function untilEvent(running: Running, matches: (event: Event) => boolean): Promise<Event> {
  const { promise, resolve, reject } = Promise.withResolvers<Event>()
  let rest = ''
  const read = (chunk: Buffer | string) => {
    const lines = (rest + chunk).split('\n')
    rest = lines.pop() ?? ''
    const found = parseEvents(lines.join('\n')).find(matches)
    if (found !== undefined) resolve(found)
  }
  running.stdout.on('data', read)
  running.then(({ stdout, stderr }) =>
    reject(new Error(`it ended before that happened:\n${stdout.slice(-2000)}\n${stderr}`)),
  )
  return await promise.finally(() => running.stdout.off('data', read))
}

/** A client of the lab that runs now. */
export async function labClient(): Promise<Pve> {
  const status = await labStatus(LAB_DIR)
  if (!status.running) throw new Error('the lab does not run')
  return await connect({
    endpoint: status.endpoint,
    auth: { kind: 'token', token: status.token },
    tls: { fingerprint: status.fingerprint },
    signal: new AbortController().signal,
  })
}

export interface Inventory {
  guests: { vmid: number; name: string; template: boolean; running: boolean; tags: string }[]
  /** volumes of every content type, but for the sources that are kept for the next build */
  volumes: string[]
}

/** Everything there is on the lab. */
export async function inventory(
  pve: Pve,
  node = 'lab',
  storages = ['local', 'local-lvm'],
): Promise<Inventory> {
  const { qemu, lxc } = pve.api.nodes.$(node)
  const rows = (await Promise.all([qemu.$get(), lxc.$get()])).flat() as unknown as {
    vmid: number
    name: string
    template?: number
    status: string
    tags?: string
  }[]
  const volumes: string[] = []
  for (const storage of storages) {
    const content = (await pve.api.nodes.$(node).storage.$(storage).content.$get()) as unknown as {
      volid: string
    }[]
    volumes.push(...content.map(({ volid }) => volid).filter((volid) => !volid.includes('/ib-source-')))
  }
  return {
    guests: rows
      .map(({ vmid, name, template, status, tags }) => ({
        vmid,
        name,
        template: Boolean(template),
        running: status === 'running',
        tags: tags ?? '',
      }))
      .sort((a, b) => a.vmid - b.vmid),
    volumes: volumes.sort(),
  }
}
