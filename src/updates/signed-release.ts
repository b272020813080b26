import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { writeDurably } from '../core/durable-file.ts'
import { ImagebuildError } from '../core/errors.ts'
import { ifThere } from '../core/if-there.ts'
import { makeFolder } from '../core/make-folder.ts'
import { confirmUnchanged } from '../source/cache.ts'
import type { SourceContext } from '../source/context.ts'
import { readClearSigned } from '../source/openpgp.ts'
import { fetchChanging, forgetChanging } from './conditional.ts'
import { inTime } from './in-time.ts'
import { judgeRelease, parseRelease, type Release } from './release.ts'
import { type Suite, suiteKey } from './suite.ts'

/** Bytes; Ubuntu's largest has 260 kB, Debian's unstable 300 kB. */
const MAX_RELEASE = 16 * 2 ** 20

export interface WhenSeen {
  now: Date
  /** the newest date of this suite that was written down, wherever that is */
  lastSeen: Date | undefined
}

/**
 * A suite's InRelease, as its server has it now. Its signature is checked each time, also where it was in the cache. The
 * cache remembers the newest date that was seen, too: what the caller knows of may be older. The caller holds the suite's turn.
 * @throws ImagebuildError `unreachable` if there is none, `build_failed` if it is not to be believed
 */
export async function readSignedRelease(
  suite: Suite,
  { now, lastSeen }: WhenSeen,
  ctx: SourceContext,
): Promise<Release> {
  const url = `${suite.url}/dists/${suite.suite}/InRelease`
  const file = await inTime(url, ctx, (limited) => fetchChanging(url, 'inrelease', MAX_RELEASE, limited, now))
  try {
    const message = await readFile(file.path)
    await confirmUnchanged(file, ctx.signal)
    const text = await readClearSigned({ message, keyrings: suite.keyrings, name: url }, ctx.signal)
    const release = parseRelease(text, url)
    const seenHere = await dateSeen(suite, ctx.cacheDir)
    const newest = [lastSeen, seenHere].reduce((a, b) => (a === undefined || (b && b > a) ? b : a))
    judgeRelease(release, { suite: suite.suite, now, lastSeen: newest }, url)
    if (seenHere === undefined || release.date > seenHere) await remember(suite, release.date, ctx.cacheDir)
    return release
  } catch (error) {
    // Where it could not be looked at (gpgv is missing), it may be good.
    if (error instanceof ImagebuildError && error.code === 'build_failed')
      await forgetChanging(url, file, ctx)
    throw error
  }
}

async function dateSeen(suite: Suite, cacheDir: string): Promise<Date | undefined> {
  const text = await ifThere(readFile(seenPath(suite, cacheDir), 'utf8'))
  const date = new Date(text ?? '')
  return Number.isNaN(date.getTime()) ? undefined : date
}

async function remember(suite: Suite, date: Date, cacheDir: string): Promise<void> {
  await makeFolder(join(cacheDir, 'conditional'))
  await writeDurably(seenPath(suite, cacheDir), date.toISOString(), 0o644)
}

function seenPath(suite: Suite, cacheDir: string): string {
  const name = createHash('sha256').update(suiteKey(suite)).digest('hex')
  return join(cacheDir, 'conditional', `${name}.seen`)
}
