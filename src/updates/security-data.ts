import { randomUUID } from 'node:crypto'
import { readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { makeFolder } from '../core/make-folder.ts'
import { adoptFile, readPointer, writePointer } from '../source/cache.ts'
import type { CachedFile, SourceContext } from '../source/context.ts'
import { fetchChanging, forgetChanging, lastFetched } from './conditional.ts'
import { DEBIAN_TRACKER, readDebianTracker } from './debian-tracker.ts'
import { readUbuntuOsv, UBUNTU_OSV } from './ubuntu-osv.ts'
import type { SecurityData, Vulnerability } from './vulnerability.ts'

/** Bytes; Debian's file had 70 MB in 2025, Ubuntu's 46 MB (packed) in 2026. */
const MAX_DATA = 1024 ** 3

/** Of what is made of the distributions' files: another form has another number. */
const FORM = 1

export interface SecurityQuestion {
  distribution: 'debian' | 'ubuntu'
  /** `trixie`: Debian's tracker names releases so */
  codename: string
  /** `24.04`: Ubuntu's records name releases so */
  version: string
  now: Date
  /** where the distribution's file is, if not at its own place */
  url?: string
}

/**
 * What a distribution knows of a release's vulnerabilities. The cache keeps the part that concerns the release, so that the
 * whole file is read once for each time that it changes. Nothing is signed: the server is believed by its certificate.
 * @returns undefined where it cannot be had, and never could; old data where its server cannot be reached. Both are said
 *   (`onWarning`).
 * @throws only what ends the work altogether
 */
export async function readSecurityData(
  question: SecurityQuestion,
  ctx: SourceContext,
): Promise<SecurityData | undefined> {
  const { distribution, now } = question
  const url = question.url ?? (distribution === 'debian' ? DEBIAN_TRACKER : UBUNTU_OSV)
  const extension = distribution === 'debian' ? 'tracker.json' : 'osv.tar.xz'
  const guarded = { privateHosts: [], ...ctx }
  const read = async (file: CachedFile, date: Date) => ({
    vulnerabilities: await ofRelease(url, file, question, guarded),
    date,
  })
  const warn = (error: unknown) => {
    ctx.signal.throwIfAborted()
    ctx.onWarning?.(
      `what is known of vulnerabilities cannot be brought up to date: ${(error as Error).message}`,
    )
    return undefined
  }
  try {
    return await read(await fetchChanging(url, extension, MAX_DATA, guarded, now), now)
  } catch (error) {
    warn(error)
    const last = await lastFetched(url, extension, guarded)
    return last && (await read(last.file, last.checked).catch(warn))
  }
}

async function ofRelease(
  url: string,
  file: CachedFile,
  { distribution, codename, version }: SecurityQuestion,
  ctx: SourceContext,
): Promise<Map<string, readonly Vulnerability[]>> {
  const identity = `${file.digest}-fixed-in-${distribution === 'debian' ? codename : version}-${FORM}`
  const known = await readPointer(ctx, identity)
  if (known) return new Map(JSON.parse(await readFile(known.path, 'utf8')) as [string, Vulnerability[]][])
  try {
    const found =
      distribution === 'debian'
        ? await readDebianTracker(file, codename, ctx)
        : await readUbuntuOsv(file, version, ctx)
    await keep(identity, found, ctx)
    return found
  } catch (error) {
    ctx.signal.throwIfAborted()
    await forgetChanging(url, file, ctx)
    throw error
  }
}

async function keep(
  identity: string,
  found: ReadonlyMap<string, readonly Vulnerability[]>,
  ctx: SourceContext,
): Promise<void> {
  await makeFolder(join(ctx.cacheDir, 'partial'))
  const path = join(ctx.cacheDir, 'partial', `fixed.${process.pid}.${randomUUID()}`)
  try {
    await writeFile(path, JSON.stringify([...found]))
    await writePointer(ctx.cacheDir, identity, await adoptFile(ctx, path, 'fixed.json'))
  } finally {
    await rm(path, { force: true })
  }
}
