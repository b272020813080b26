import { readFile } from 'node:fs/promises'
import { ImagebuildError } from '../../core/errors.ts'
import type { Session } from '../../ssh/session.ts'
import { formatPackageList } from '../../updates/package-list.ts'
import type { Build } from '../context.ts'
import { MANIFEST, PACKAGES, recordsFolder, SBOM, writeRecord } from '../records.ts'
import type { Manifest } from './manifest.ts'
import { packageListOf } from './package-list.ts'
import { parseInventory } from './parse.ts'

/** Seconds; walking through all files is the slowest part. */
const LOOK_SECONDS = 600

/** Bytes; ten thousand packages and as many privileged files are less. */
const LARGEST_ANSWER = 8 * 1024 * 1024

/**
 * Writes down what is in a system that is finished but not yet sealed, while one may still ask it: once, by one script.
 * @param facts.user who logs in for the build alone
 * @returns SHA-256 of the records, by name
 * @throws ImagebuildError `build_failed`
 */
export async function takeInventory(
  build: Build,
  session: Session,
  facts: { version: string; digest: string; user: string },
): Promise<Record<string, string>> {
  const { image, signal, tool } = build
  const answer = await ask(session, facts.user, signal)
  const now = new Date()
  const manifest: Manifest = {
    schema: 1,
    image: image.name,
    version: facts.version,
    kind: image.kind,
    digest: facts.digest,
    built: now.toISOString(),
    ...parseInventory(answer, facts.user),
  }
  // Only here: the library takes longer to load than most commands to run.
  const { renderSbom } = await import('./sbom.ts')
  const folder = recordsFolder(build.reportsDir, image.name, facts.version, build.beside)
  return {
    [MANIFEST]: await writeRecord(folder, MANIFEST, `${JSON.stringify(manifest, undefined, 2)}\n`),
    [PACKAGES]: await writeRecord(
      folder,
      PACKAGES,
      formatPackageList(packageListOf(manifest, image.source.architecture)),
    ),
    [SBOM]: await writeRecord(folder, SBOM, renderSbom(manifest, { tool, date: now })),
  }
}

async function ask(session: Session, user: string, signal: AbortSignal): Promise<string> {
  const script = await readFile(new URL('inventory.sh', import.meta.url), 'utf8')
  const chunks: Buffer[] = []
  let bytes = 0
  const { code, stderr } = await session.stream(
    script,
    (chunk) => {
      bytes += chunk.length
      if (bytes <= LARGEST_ANSWER) chunks.push(chunk)
    },
    { sudo: true, env: { BUILD_USER: user }, seconds: LOOK_SECONDS, signal },
  )
  if (code === 0 && bytes <= LARGEST_ANSWER) return Buffer.concat(chunks).toString('latin1')
  throw new ImagebuildError({
    code: 'build_failed',
    what: 'what is in the image could not be written down',
    why:
      code === 0
        ? `its answer has more than ${LARGEST_ANSWER} bytes`
        : `inventory.sh ended with exit code ${code}`,
    ...(stderr !== '' && { output: stderr.trimEnd().split('\n') }),
    next: 'run again with --on-error keep to look into the guest',
  })
}
