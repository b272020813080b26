import { DEFAULT_LIMITS } from '../archive/limits.ts'
import { readEntries } from '../archive/read-entries.ts'
import { openArchive } from '../archive/unpacked.ts'
import { confirmUnchanged } from '../source/cache.ts'
import type { CachedFile, SourceContext } from '../source/context.ts'
import { URGENCIES, type Vulnerability } from './vulnerability.ts'

/** All records of Ubuntu's security team in the OSV format: https://documentation.ubuntu.com/security/security-updates/osv/ */
export const UBUNTU_OSV = 'https://security-metadata.canonical.com/osv/osv-all.tar.xz'

/** Where the records of single vulnerabilities lie; notices name the same ones once more. */
const CVE_RECORD = /(^|\/)cve\/.*\.json$/

/** Kernels' records name each version of each kernel. */
const MAX_RECORD = 64 * 2 ** 20

/** Of the OSV schema, what Ubuntu's priority and the fixed versions are in. */
interface OsvRecord {
  id?: string
  severity?: { type?: string; score?: string }[]
  affected?: {
    package?: { ecosystem?: string; name?: string }
    ranges?: { type?: string; events?: { introduced?: string; fixed?: string }[] }[]
    ecosystem_specific?: { ubuntu_priority?: string }
  }[]
}

/**
 * What is fixed in a release, from the archive of all records as it streams by.
 * @param version `24.04`
 * @throws ImagebuildError, Refusal or SyntaxError for an archive that is none
 */
export async function readUbuntuOsv(
  file: CachedFile,
  version: string,
  ctx: Pick<SourceContext, 'signal'>,
): Promise<Map<string, Vulnerability[]>> {
  await using unpacked = await openArchive(file.path, ctx.signal)
  // Records of one form, thousands of times: nothing packs better.
  const limits = { ...DEFAULT_LIMITS, ratio: 10_000 }
  const found = new Map<string, Vulnerability[]>()
  for await (const { entry, body } of readEntries(unpacked, limits)) {
    if (entry.kind !== 'file' || !CVE_RECORD.test(entry.path) || entry.size > MAX_RECORD) continue
    // Copies: the memory of a chunk is given back soon after it was passed on.
    const chunks = await Array.fromAsync(body, (chunk) => Buffer.from(chunk))
    const text = Buffer.concat(chunks).toString('utf8')
    // Most records are of other releases only.
    if (!text.includes(`Ubuntu:${version}`)) continue
    for (const [source, vulnerability] of ofRecord(JSON.parse(text) as OsvRecord, version)) {
      const others = found.get(source)
      if (others === undefined) found.set(source, [vulnerability])
      else others.push(vulnerability)
    }
  }
  await confirmUnchanged(file, ctx.signal)
  return found
}

/** Records say how urgent something is for all releases (`severity`); earlier ones did so for each. */
function ofRecord(record: OsvRecord, version: string): [source: string, Vulnerability][] {
  const id = (record.id ?? '').replace(/^UBUNTU-/, '')
  const overall = record.severity?.find(({ type }) => type === 'Ubuntu')?.score
  return (record.affected ?? []).flatMap((affected) => {
    const { ecosystem = '', name = '' } = affected.package ?? {}
    // Those of `Ubuntu:Pro:…` are fixed for subscribers only.
    if (ecosystem !== `Ubuntu:${version}` && ecosystem !== `Ubuntu:${version}:LTS`) return []
    const priority = affected.ecosystem_specific?.ubuntu_priority ?? overall
    const urgency = URGENCIES.find((known) => known === priority) ?? null
    return (affected.ranges ?? [])
      .flatMap(({ events = [] }) => events.flatMap((event) => event.fixed ?? []))
      .map((fixed): [string, Vulnerability] => [name, { id, urgency, fixed }])
  })
}
