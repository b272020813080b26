import { mkdir, readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { execa } from 'execa'

/** What the archives' signatures are checked with: of the Debian package debian-archive-keyring. */
export const KEYRING = '/usr/share/keyrings/debian-archive-keyring.gpg'

const MIRROR = 'http://deb.debian.org/debian'
const SECURITY = 'http://deb.debian.org/debian-security'

/** Where packages come from: the suites of one mirror. */
export interface Archive {
  uri: string
  suites: readonly string[]
}

export const UNSTABLE: readonly Archive[] = [{ uri: MIRROR, suites: ['sid'] }]

/** A release with its updates. @param suite its code name */
export function stable(suite: string): Archive[] {
  return [
    { uri: MIRROR, suites: [suite, `${suite}-updates`] },
    { uri: SECURITY, suites: [`${suite}-security`] },
  ]
}

/** Debian's apt with lists, settings and keys of its own, so that this machine's sources stay as they are. */
export interface Apt {
  /** downloads these packages alone; gives the .deb files, in the order of their names */
  download(packages: readonly string[]): Promise<string[]>
  /** downloads these packages and what they need beyond what is installed, which `status` says (as dpkg keeps it) */
  downloadFor(status: string, packages: readonly string[]): Promise<string[]>
}

/**
 * Its lists are fetched at once. apt refuses what is not signed by a key of the archive, and a package that is not
 * what the signed list says.
 * @param folder an empty one; everything is kept in it
 * @throws Error of execa with apt's words
 */
export async function makeApt(
  folder: string,
  archives: readonly Archive[],
  signal: AbortSignal,
): Promise<Apt> {
  const at = (...path: string[]) => join(folder, ...path)
  for (const path of ['state/lists/partial', 'cache/archives/partial', 'etc', 'debs'])
    await mkdir(at(path), { recursive: true })
  await writeFile(at('etc/audit.sources'), archives.map(source).join('\n'))
  await writeFile(at('status'), '')
  const settings = {
    'Dir::State': at('state'),
    'Dir::State::status': at('status'),
    'Dir::Cache': at('cache'),
    'Dir::Etc::sourcelist': at('etc/audit.sources'),
    'Dir::Etc::sourceparts': '-',
    'Dir::Etc::trusted': '/dev/null',
    'Dir::Etc::trustedparts': '/dev/null',
    'Dir::Etc::preferences': '/dev/null',
    'Dir::Etc::preferencesparts': '/dev/null',
    'APT::Architecture': 'amd64',
    // Debian's user for downloads cannot write below folders that are not everybody's.
    'APT::Sandbox::User': '',
    'Acquire::Languages': 'none',
  }
  const options = Object.entries(settings).flatMap(([key, value]) => ['-o', `${key}=${value}`])
  const apt = (args: readonly string[], cwd: string) =>
    execa('apt-get', [...options, ...args], {
      cwd,
      env: { LC_ALL: 'C.UTF-8' },
      stdin: 'ignore',
      cancelSignal: signal,
    })
  const debsIn = async (path: string) =>
    (await readdir(path))
      .filter((name) => name.endsWith('.deb'))
      .sort()
      .map((name) => join(path, name))

  await apt(['update', '--error-on=any'], folder)
  return {
    download: async (packages) => {
      await apt(['download', ...packages], at('debs'))
      return await debsIn(at('debs'))
    },
    downloadFor: async (status, packages) => {
      await writeFile(at('status'), status)
      await apt(['install', '--download-only', '--yes', '--no-install-recommends', ...packages], folder)
      return await debsIn(at('cache/archives'))
    },
  }
}

function source({ uri, suites }: Archive): string {
  return `Types: deb\nURIs: ${uri}\nSuites: ${suites.join(' ')}\nComponents: main\nSigned-By: ${KEYRING}\n`
}
