import { mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { execa } from 'execa'
import type { Requirement } from '../src/cli/prerequisites.ts'
import { withWorkFolder } from '../src/source/work-folder.ts'
import { KEYRING, makeApt, UNSTABLE } from './apt.ts'
import type { Release } from './release.ts'

/**
 * The scanners that a stable Debian has not, or has too old: from Debian's unstable suite, unpacked into the cache and
 * installed nowhere. What a clone runs itself is of its own release (see on-clone.ts).
 */
export interface Tools {
  sshAudit: {
    version: string
    /** command and first arguments */
    command: readonly [string, ...string[]]
    env: Record<string, string>
  }
  /** what OpenSCAP evaluates: a file for each release */
  content: { version: string; folder: string }
}

/** All profiles for a release. */
export function contentFor({ content }: Pick<Tools, 'content'>, release: Release): string {
  return join(content.folder, `ssg-debian${release}-ds.xml`)
}

/** What getting and running them needs of this machine. */
export const TOOLS_HOST: readonly Requirement[] = [
  { command: 'apt-get', package: 'apt' },
  { command: 'dpkg-deb', package: 'dpkg' },
  { command: '/usr/bin/python3', package: 'python3' },
  { command: KEYRING, package: 'debian-archive-keyring' },
]

/** Lowest versions: those with the profile and the policy that the limits are about. */
const WANTED = { 'ssg-debian': '0.1.82', 'ssh-audit': '3.3' } as const

const CONTENT = 'usr/share/xml/scap/ssg/content'

type Versions = Record<keyof typeof WANTED, string>

/** From the cache, where it has them: its folder `audit` is to be deleted for newer ones. Needs apt and dpkg. */
export async function auditTools(ctx: { cacheDir: string; signal: AbortSignal }): Promise<Tools> {
  const folder = join(ctx.cacheDir, 'audit')
  const versions = (await kept(folder)) ?? (await fetchTools(folder, ctx))
  return {
    sshAudit: {
      version: versions['ssh-audit'],
      command: ['/usr/bin/python3', join(folder, 'usr/bin/ssh-audit')],
      env: { PYTHONPATH: join(folder, 'usr/lib/python3/dist-packages'), PYTHONDONTWRITEBYTECODE: '1' },
    },
    content: {
      version: versions['ssg-debian'],
      folder: join(folder, CONTENT),
    },
  }
}

/** Those of an earlier audit may be older than what is wanted by now. */
async function kept(folder: string): Promise<Versions | undefined> {
  const text = await readFile(join(folder, 'versions.json'), 'utf8').catch(() => undefined)
  if (text === undefined) return undefined
  const versions = JSON.parse(text) as Versions
  for (const name of Object.keys(WANTED) as (keyof Versions)[])
    if (!(await isNewEnough(name, versions[name]))) return undefined
  return versions
}

async function fetchTools(folder: string, ctx: { cacheDir: string; signal: AbortSignal }): Promise<Versions> {
  return await withWorkFolder(ctx.cacheDir, 'audit-tools', async (work) => {
    const apt = await makeApt(join(work, 'apt'), UNSTABLE, ctx.signal)
    const tree = join(work, 'tree')
    await mkdir(tree)
    const versions: Partial<Versions> = {}
    for (const deb of await apt.download(Object.keys(WANTED))) {
      const name = basename(deb).split('_')[0] as keyof Versions
      const { stdout: version } = await execa('dpkg-deb', ['--field', deb, 'Version'])
      if (!(await isNewEnough(name, version)))
        throw new Error(`Debian's unstable suite has ${name} ${version}; ${WANTED[name]} is needed`)
      await execa('dpkg-deb', ['--extract', deb, tree])
      versions[name] = version
    }
    await writeFile(join(tree, 'versions.json'), JSON.stringify(versions))
    await rm(folder, { recursive: true, force: true })
    try {
      await rename(tree, folder)
    } catch (cause) {
      // Where another process has put its own there meanwhile, that one serves.
      const there = await kept(folder)
      if (there === undefined) throw cause
      return there
    }
    return versions as Versions
  })
}

async function isNewEnough(name: keyof Versions, version: string): Promise<boolean> {
  const compare = ['--compare-versions', version, 'ge', WANTED[name]]
  const { failed } = await execa('dpkg', compare, { reject: false })
  return !failed
}
