import { mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { execa } from 'execa'
import type { Requirement } from '../src/cli/prerequisites.ts'
import { withWorkFolder } from '../src/source/work-folder.ts'
import { KEYRING, makeApt, UNSTABLE } from './apt.ts'

/**
 * The scanners that Debian 12 has not, or has too old: from Debian's unstable suite, unpacked into the cache and
 * installed nowhere. What a clone runs itself is Debian 12's own (see on-clone.ts).
 */
export interface Tools {
  sshAudit: {
    version: string
    /** command and first arguments */
    command: readonly [string, ...string[]]
    env: Record<string, string>
  }
  /** what OpenSCAP evaluates: all profiles for Debian 12 */
  content: { version: string; path: string }
}

/** What getting and running them needs of this machine. */
export const TOOLS_HOST: readonly Requirement[] = [
  { command: 'apt-get', package: 'apt' },
  { command: 'dpkg-deb', package: 'dpkg' },
  { command: '/usr/bin/python3', package: 'python3' },
  { command: KEYRING, package: 'debian-archive-keyring' },
]

/** Lowest versions: those with the profile and the policy that the limits are about. */
const WANTED = { 'ssg-debian': '0.1.80', 'ssh-audit': '3.3' } as const

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
      path: join(folder, 'usr/share/xml/scap/ssg/content/ssg-debian12-ds.xml'),
    },
  }
}

async function kept(folder: string): Promise<Versions | undefined> {
  const text = await readFile(join(folder, 'versions.json'), 'utf8').catch(() => undefined)
  return text === undefined ? undefined : (JSON.parse(text) as Versions)
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
      await demandVersion(name, version)
      await execa('dpkg-deb', ['--extract', deb, tree])
      versions[name] = version
    }
    await writeFile(join(tree, 'versions.json'), JSON.stringify(versions))
    await rm(folder, { recursive: true, force: true })
    await rename(tree, folder)
    return versions as Versions
  })
}

async function demandVersion(name: keyof Versions, version: string): Promise<void> {
  const { failed } = await execa('dpkg', ['--compare-versions', version, 'ge', WANTED[name]], {
    reject: false,
  })
  if (failed) throw new Error(`Debian's unstable suite has ${name} ${version}; ${WANTED[name]} is needed`)
}
