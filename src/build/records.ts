import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { writeDurably } from '../core/durable-file.ts'
import { makeFolder } from '../core/make-folder.ts'

/**
 * What a build writes down of its result: files beside the project, too large for a template's note. The note has the
 * SHA-256 of each (`artifacts`), so that whoever has the file knows that it is the one that was meant.
 */

export const VERIFY_REPORT = 'verify.json'
export const MANIFEST = 'manifest.json'
export const SBOM = 'sbom.cdx.json'
export const PLAN = 'plan.json'
export const PACKAGES = 'packages.txt'

/**
 * @param reportsDir of the target
 * @param node where it was built, if it is another than the target's first
 */
export function recordsFolder(reportsDir: string, image: string, version: string, node = ''): string {
  return join(reportsDir, image, version, node)
}

/**
 * Whole and on the disk before the template's note names it.
 * @returns its SHA-256, in hexadecimal
 */
export async function writeRecord(folder: string, name: string, text: string): Promise<string> {
  await makeFolder(folder)
  await writeDurably(join(folder, name), text, 0o600)
  return sha256Of(text)
}

/**
 * The record of a template with this SHA-256; undefined where it is not here, or is another one. The target's first node
 * may have been another one at that time.
 */
export async function readRecord(
  reportsDir: string,
  of: { image: string; version: string; node: string },
  name: string,
  sha256: string | undefined,
): Promise<string | undefined> {
  for (const node of ['', of.node]) {
    const file = join(recordsFolder(reportsDir, of.image, of.version, node), name)
    const text = await readFile(file, 'utf8').catch(() => undefined)
    if (text !== undefined && sha256Of(text) === sha256) return text
  }
  return undefined
}

export function sha256Of(text: string): string {
  return createHash('sha256').update(text).digest('hex')
}
