import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type PackageList, parsePackageList } from '../updates/package-list.ts'
import { PACKAGES, readRecord, sha256Of } from './records.ts'

/**
 * Lists of the packages in current templates, beside imagebuild.lock.json and committed as it is:
 * `imagebuild.packages/<target>/<image>.txt`. A node whose packages are others has `<image>@<node>.txt`.
 */
export const PACKAGE_LISTS = 'imagebuild.packages'

/** @param node of those whose list is a file of its own */
export function packageListFile(
  root: string,
  { target, image, node }: { target: string; image: string; node?: string },
): string {
  return join(root, PACKAGE_LISTS, target, `${node === undefined ? image : `${image}@${node}`}.txt`)
}

export interface RecordPlaces {
  /** of the project */
  root: string
  target: string
  /** of the target */
  reportsDir: string
}

/**
 * The list with this SHA-256, wherever it is here: among those that are committed, or where the image was built.
 * @param sha256 what the template's note has for `packages.txt`
 * @returns undefined where it is not here, or another one
 */
export async function readPackageText(
  { root, target, reportsDir }: RecordPlaces,
  template: { image: string; version: string; node: string },
  sha256: string | undefined,
): Promise<string | undefined> {
  if (sha256 === undefined) return undefined
  const { image, node } = template
  for (const file of [
    packageListFile(root, { target, image }),
    packageListFile(root, { target, image, node }),
  ]) {
    const text = await readFile(file, 'utf8').catch(() => undefined)
    if (text !== undefined && sha256Of(text) === sha256) return text
  }
  return readRecord(reportsDir, template, PACKAGES, sha256)
}

/**
 * The same, read.
 * @throws ImagebuildError `definition_invalid` where only a newer imagebuild can read it
 */
export async function readPackageList(
  at: RecordPlaces,
  template: { image: string; version: string; node: string },
  sha256: string | undefined,
): Promise<PackageList | undefined> {
  const text = await readPackageText(at, template, sha256)
  return text === undefined ? undefined : parsePackageList(text, `the list of packages of ${template.image}`)
}
