import { cp, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { execa } from 'execa'
import { labStatus, stopLab } from '../src/lab/lab.ts'
import { connect, type Pve } from '../src/pve/client.ts'
import { type Audit, definitionFor } from './definition.ts'

export const ROOT = resolve(import.meta.dirname, '..')

/** The image that is audited: the one that is shipped. */
export const IMAGE = 'debian-base'

/** A lab, and a folder for projects. Its end removes the folder, and the lab unless it was given. */
export interface Workspace extends BuildPlace, AsyncDisposable {}

/** Where a template is built. */
export interface BuildPlace {
  /** for the projects' folders */
  folder: string
  /** the lab's folder */
  lab: string
  say: (line: string) => void
  signal: AbortSignal
}

export interface WorkspaceOptions {
  /** leave everything as it is at the end, to be looked into */
  keep: boolean
  say: (line: string) => void
  signal: AbortSignal
}

/** Below TMPDIR, which needs some gigabytes of room. The lab is that of IMAGEBUILD_LAB_DIR, where it is set. */
export async function makeWorkspace({ keep, say, signal }: WorkspaceOptions): Promise<Workspace> {
  const folder = await mkdtemp(join(tmpdir(), 'imagebuild-audit-'))
  const given = process.env.IMAGEBUILD_LAB_DIR
  const lab = given ?? join(folder, 'lab')
  return {
    folder,
    lab,
    say,
    signal,
    [Symbol.asyncDispose]: async () => {
      if (keep) {
        say(`kept: ${folder}, and the lab: IMAGEBUILD_LAB_DIR=${lab} imagebuild lab stop`)
        return
      }
      if (given === undefined) await stopLab(lab)
      await rm(folder, { recursive: true, force: true })
    },
  }
}

/**
 * The template of the shipped image with this hardening: built, or found unchanged on a lab that has it already.
 * Each release and profile is a namespace of its own, so that all templates are there at once.
 * @returns its VMID
 */
export async function buildTemplate(place: BuildPlace, audit: Audit): Promise<number> {
  const { folder, lab, say, signal } = place
  const { release, profile } = audit
  const name = `debian-${release}-${profile}`
  const project = join(folder, name)
  await mkdir(project)
  for (const part of ['cloud-init', 'images'])
    await cp(join(ROOT, part), join(project, part), { recursive: true })
  const definition = join(project, 'images', IMAGE, 'image.yaml')
  await writeFile(definition, definitionFor(await readFile(definition, 'utf8'), audit))
  await writeFile(
    join(project, 'imagebuild.yaml'),
    `namespace: audit-${name}\ntarget: lab\ntargets:\n  lab: { kind: lab }\n`,
  )
  const imagebuild = async (...args: string[]) => {
    const running = execa(join(ROOT, 'imagebuild'), args, {
      cwd: project,
      // Between two of our calls lies an audit: the lab shall not end meanwhile.
      env: { IMAGEBUILD_LAB_DIR: lab, IMAGEBUILD_LAB_IDLE_SECONDS: '7200', CI: '', NO_COLOR: '1' },
      stdin: 'ignore',
      // It is said line by line as it comes.
      buffer: { stderr: false },
      cancelSignal: signal,
      killSignal: 'SIGINT',
      // It cleans up first, which may take a while.
      forceKillAfterDelay: 150_000,
    })
    for await (const line of running.iterable({ from: 'stderr' })) say(`${name}: ${line}`)
    return (await running).stdout.trim()
  }
  // The clones are examined here.
  say(`${name}: ${await imagebuild('run', IMAGE, '--verify', 'off')}`)
  return Number(await imagebuild('resolve', IMAGE))
}

/** A client of the lab, which the first build has started. */
export async function connectLab({ lab, signal }: BuildPlace): Promise<{ pve: Pve; node: string }> {
  const status = await labStatus(lab)
  if (!status.running) throw new Error('the lab does not run')
  const { endpoint, fingerprint, token, node } = status
  const pve = await connect({ endpoint, auth: { kind: 'token', token }, tls: { fingerprint }, signal })
  return { pve, node }
}
