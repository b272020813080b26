import { createHash, randomUUID } from 'node:crypto'
import { readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { PackerError } from '../archive/packer-process.ts'
import { Refusal } from '../archive/refusal.ts'
import { ImagebuildError } from '../core/errors.ts'
import { makeFolder } from '../core/make-folder.ts'
import { adoptFile, readPointer, removeCached, writePointer } from '../source/cache.ts'
import type { CachedFile, SourceContext } from '../source/context.ts'
import { cacheTurn } from './cache-turn.ts'
import { fetchChanging, forgetChanging, lastFetched, ownExtension } from './conditional.ts'
import { DEBIAN_TRACKER, readDebianTracker } from './debian-tracker.ts'
import { inTime } from './in-time.ts'
import { readUbuntuOsv, UBUNTU_OSV } from './ubuntu-osv.ts'
import type { SecurityData, Vulnerability } from './vulnerability.ts'

/** Bytes; Debian's file had 70 MB in 2025, Ubuntu's 46 MB (packed) in 2026. */
const MAX_DATA = 1024 ** 3

/** Of what is made of the distributions' files: another form has another number. */
const FORM = 2

/** As distributions name releases: they come from a guest's os-release, which anything may stand in. */
const CODENAME = /^[a-z][a-z0-9-]*$/
const VERSION = /^\d+(\.\d+)*$/

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
  const warn = (error: unknown) => {
    ctx.signal.throwIfAborted()
    ctx.onWarning?.(
      `what is known of vulnerabilities cannot be brought up to date: ${(error as Error).message}`,
    )
    return undefined
  }
  if (!CODENAME.test(question.codename) || !VERSION.test(question.version)) {
    const name = `${distribution} ${question.version} (${question.codename})`
    return warn(new Error(`${name} is no name of a release`))
  }
  try {
    await using _turn = await cacheTurn(url, ctx)
    const fetched = await inTime(url, guarded, (limited) =>
      fetchChanging(url, extension, MAX_DATA, limited, now),
    ).then((file) => ({ file, checked: now }), warn)
    const last = fetched ?? (await lastFetched(url, extension, guarded))
    return last && { vulnerabilities: await ofRelease(url, last.file, question, guarded), date: last.checked }
  } catch (error) {
    return warn(error)
  }
}

async function ofRelease(
  url: string,
  file: CachedFile,
  { distribution, codename, version }: SecurityQuestion,
  ctx: SourceContext,
): Promise<Map<string, readonly Vulnerability[]>> {
  const release = distribution === 'debian' ? codename : version
  const identity = `fixed-${createHash('sha256')
    .update(JSON.stringify([FORM, url, release]))
    .digest('hex')}`
  const last = await readPointer(ctx, identity)
  const kept = last && (JSON.parse(await readFile(last.path, 'utf8')) as Extract)
  if (kept?.of === file.digest) return new Map(kept.found)
  const found = await read(distribution, release, file, ctx).catch(async (error) => {
    ctx.signal.throwIfAborted()
    if (isWrongContent(error)) await forgetChanging(url, file, ctx)
    throw error
  })
  const made = await keep(identity, { of: file.digest, release, found: [...found] }, ctx)
  if (last && last.path !== made.path) await removeCached(ctx, last)
  return found
}

/** What concerns one release, with the digest of the file that it is from. */
interface Extract {
  of: string
  release: string
  found: [source: string, readonly Vulnerability[]][]
}

function read(
  distribution: SecurityQuestion['distribution'],
  release: string,
  file: CachedFile,
  ctx: SourceContext,
): Promise<Map<string, readonly Vulnerability[]>> {
  return distribution === 'debian' ? readDebianTracker(file, release, ctx) : readUbuntuOsv(file, release, ctx)
}

/** A full disk or a missing tool says nothing of the file. */
function isWrongContent(error: unknown): boolean {
  if (error instanceof ImagebuildError) return error.code === 'build_failed'
  return [SyntaxError, Refusal, PackerError].some((kind) => error instanceof kind)
}

async function keep(identity: string, extract: Extract, ctx: SourceContext): Promise<CachedFile> {
  await makeFolder(join(ctx.cacheDir, 'partial'))
  const path = join(ctx.cacheDir, 'partial', `fixed.${process.pid}.${randomUUID()}`)
  try {
    await writeFile(path, JSON.stringify(extract))
    const file = await adoptFile(ctx, path, ownExtension(identity, 'fixed.json'))
    await writePointer(ctx.cacheDir, identity, file)
    return file
  } finally {
    await rm(path, { force: true })
  }
}
