import { mkdtemp, rm } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { makeApt, stable } from './apt.ts'
import { RELEASES, type Release } from './release.ts'

/** A clone that is up: what `bootClone` gives, or anything else that lets an administrator in. */
export interface AuditedClone {
  /** of Debian */
  release: Release
  address: string
  /** a command of a user who may sudo without a password; gives its stdout, throws when it fails */
  run(command: string, inputFile?: string): Promise<string>
}

/** On the clone, root's alone: not in /tmp, which may be mounted noexec and is everybody's. */
export const FOLDER = '/root/audit'

export async function copyTo(clone: AuditedClone, file: string): Promise<void> {
  await clone.run(`sudo install -D -m 600 /dev/stdin ${FOLDER}/${basename(file)}`, file)
}

/**
 * Installs packages of the clone's own release for the time of `use`, with what they need beyond what the clone has. They are
 * fetched by this machine's apt and copied: whatever the clone's firewall lets out, and none of its settings changes.
 * @param work a folder of this machine
 */
export async function withPackages<T>(
  clone: AuditedClone,
  packages: readonly string[],
  work: string,
  signal: AbortSignal,
  use: () => Promise<T>,
): Promise<T> {
  const folder = await mkdtemp(join(work, 'packages-'))
  try {
    const apt = await makeApt(folder, stable(RELEASES[clone.release]), signal)
    const status = await clone.run('cat /var/lib/dpkg/status')
    const debs = await apt.downloadFor(status, packages)
    for (const deb of debs) await copyTo(clone, deb)
    await clone.run(`sudo env DEBIAN_FRONTEND=noninteractive sh -c 'dpkg --install ${FOLDER}/*.deb'`)
    // What was there before, and is only newer now, stays.
    const there = installedPackages(status)
    const names = debs.map((deb) => basename(deb).split('_')[0] as string).filter((name) => !there.has(name))
    try {
      return await use()
    } finally {
      await clone.run(`sudo sh -c 'dpkg --purge ${names.join(' ')} && rm -rf ${FOLDER}'`)
    }
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

/** @param status dpkg's own file: a paragraph of fields for each package it has heard of */
export function installedPackages(status: string): Set<string> {
  const installed = status
    .split('\n\n')
    .filter((paragraph) => /^Status: \S+ \S+ installed$/m.test(paragraph))
    .flatMap((paragraph) => /^Package: (\S+)$/m.exec(paragraph)?.[1] ?? [])
  return new Set(installed)
}
