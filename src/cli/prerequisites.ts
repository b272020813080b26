import { constants } from 'node:fs'
import { access } from 'node:fs/promises'
import { delimiter, join } from 'node:path'
import { execa } from 'execa'
import { ImagebuildError } from '../core/errors.ts'
import type { Emit } from '../core/events.ts'
import { labRequirements } from '../lab/lab.ts'
import { sourceRequirements } from '../source/requirements.ts'

/** A program that something needs, and the Debian package that has it. */
export interface Requirement {
  command: string
  package: string
}

/** All that building on the lab, with sources got here, needs from Debian. */
export const LAB_HOST: readonly Requirement[] = [
  { command: 'ssh-keygen', package: 'openssh-client' },
  ...labRequirements(),
  ...sourceRequirements(),
]

/**
 * Installs what is missing, as root or by a sudo that asks for no password.
 * @throws ImagebuildError `prerequisite_missing` with the exact line to type, where it may not
 */
export async function installMissing(requirements: readonly Requirement[], emit: Emit): Promise<void> {
  const missing = await missingPackages(requirements)
  if (missing.length === 0) return
  const install = ['apt-get', 'install', '-y', '--no-install-recommends', ...missing]
  const become = await privilegePrefix()
  const line = `sudo sh -c 'apt-get update && ${install.join(' ')}'`
  if (become === undefined || !(await isOnPath('apt-get'))) {
    throw new ImagebuildError({
      code: 'prerequisite_missing',
      what: `this machine lacks ${missing.length === 1 ? 'a package' : 'packages'}: ${missing.join(', ')}`,
      next: line,
    })
  }
  emit({ type: 'info', message: `installing Debian packages: ${missing.join(' ')}` })
  const env = { DEBIAN_FRONTEND: 'noninteractive' }
  try {
    for (const [command = '', ...args] of [
      [...become, 'apt-get', 'update'],
      [...become, ...install],
    ]) {
      await execa(command, args, { env, stdin: 'ignore', all: true })
    }
  } catch (cause) {
    const { all = '' } = cause as { all?: string }
    throw new ImagebuildError({
      code: 'prerequisite_missing',
      what: `these packages could not be installed: ${missing.join(', ')}`,
      output: all.split('\n').slice(-15),
      next: `see what is wrong with: ${line}`,
      cause,
    })
  }
}

export async function missingPackages(requirements: readonly Requirement[]): Promise<string[]> {
  const found = await Promise.all(requirements.map(({ command }) => isOnPath(command)))
  return [
    ...new Set(requirements.filter((_, index) => !found[index]).map((requirement) => requirement.package)),
  ].sort()
}

/** What to put before a command to be root: nothing, or sudo where that asks nothing. */
async function privilegePrefix(): Promise<string[] | undefined> {
  if (process.getuid?.() === 0) return []
  const { failed } = await execa('sudo', ['-n', 'true'], { reject: false, stdio: 'ignore' })
  return failed ? undefined : ['sudo', '-n']
}

/** System tools lie in sbin, which is not on everybody's path. A path that is absolute is a file to be there. */
async function isOnPath(command: string): Promise<boolean> {
  const folders = command.startsWith('/')
    ? ['']
    : [...(process.env.PATH ?? '').split(delimiter), '/usr/sbin', '/sbin']
  const tries = folders.map((folder) =>
    access(join(folder, command), command.startsWith('/') ? constants.R_OK : constants.X_OK),
  )
  return (await Promise.allSettled(tries)).some(({ status }) => status === 'fulfilled')
}
