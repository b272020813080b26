import { type ExecFileSyncOptions, execFileSync } from 'node:child_process'
import { existsSync, globSync, mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'

const CACHE = resolve(import.meta.dirname, '../../node_modules/.cache')
const KEYRING = '/usr/share/keyrings/debian-archive-keyring.gpg'

/** Where packages of a Debian release are unpacked to, under a name that says what for. */
export const unpackedTo = (purpose: string, release: string) => join(CACHE, purpose, release)

/**
 * Gets packages of a Debian release, with package lists and settings apart from the machine's own, and unpacks them,
 * installing nothing.
 * @throws Error of apt-get
 */
export function unpackPackages(purpose: string, release: string, packages: readonly string[]): void {
  const root = unpackedTo(purpose, release)
  if (existsSync(root)) return
  mkdirSync(dirname(root), { recursive: true })
  const folder = mkdtempSync(join(dirname(root), 'new-'))
  try {
    for (const name of ['lists/partial', 'archives/partial', 'root'])
      mkdirSync(join(folder, name), { recursive: true })
    const source = `deb [signed-by=${KEYRING}] http://deb.debian.org/debian ${release} main\n`
    writeFileSync(join(folder, 'sources.list'), source)
    const options = [
      `Dir::Etc::SourceList=${folder}/sources.list`,
      'Dir::Etc::SourceParts=/dev/null',
      `Dir::State::Lists=${folder}/lists`,
      // Else apt would have the versions that this machine has installed, which that release does not offer.
      'Dir::State::Status=/dev/null',
      `Dir::Cache=${folder}`,
      'APT::Sandbox::User=root',
      'Acquire::Languages=none',
    ].flatMap((option) => ['-o', option])
    const run: ExecFileSyncOptions = { cwd: folder, stdio: ['ignore', 'ignore', 'inherit'] }
    execFileSync('apt-get', [...options, '-q', 'update'], run)
    execFileSync('apt-get', [...options, '-q', 'download', ...packages], run)
    for (const archive of globSync('*.deb', { cwd: folder })) {
      execFileSync('dpkg-deb', ['--extract', archive, 'root'], run)
    }
    try {
      renameSync(join(folder, 'root'), root)
    } catch (error) {
      // Another process has unpacked the same meanwhile.
      if (!existsSync(root)) throw error
    }
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}
