import { readRecord, VERIFY_REPORT } from '../../build/records.ts'
import { formatReport, type Report } from '../../build/verify/report.ts'
import { ImagebuildError } from '../../core/errors.ts'
import { placesTemplates, readNote, select } from '../../pve/templates.ts'
import { reportsFolder } from '../folders.ts'
import type { Invocation } from '../invocation.ts'
import { print, printJson, tell } from '../output.ts'
import { openProject } from '../project.ts'
import { connectTarget } from '../target.ts'

/**
 * The report of a template's verification. The template's note names its SHA-256; the report itself lies with whoever
 * ran the build.
 */
export async function showVerify(
  invocation: Invocation,
  selector: string,
  options: { target?: string; json: boolean },
): Promise<void> {
  const [name = '', version] = selector.split('@')
  const project = await openProject(invocation, [name])
  await using connected = await connectTarget(invocation, project, options.target, () => {})
  const { pve, place, places } = connected
  const nodes = places.map(({ node }) => node)
  const templates = await placesTemplates(pve, nodes, project.namespace)
  const template = select(templates, name, version)
  if (template === undefined) {
    throw new ImagebuildError({
      code: 'not_found',
      what: `there is no ${version ?? 'current'} template of ${name} on ${place.target}`,
      next: 'imagebuild list shows all, imagebuild run builds one',
    })
  }
  const note = await readNote(pve, template)
  const summary = note?.verify
  if (typeof summary !== 'object') {
    throw new ImagebuildError({
      code: 'not_found',
      what: `${template.name} was not verified`,
      next: `imagebuild run ${name} verifies it`,
    })
  }
  const of = { image: name, version: note?.version ?? '', node: template.node }
  const sha256 = note?.artifacts?.[VERIFY_REPORT]
  const text = await readRecord(reportsFolder(project.root, place.target), of, VERIFY_REPORT, sha256)
  if (text !== undefined) {
    const report = JSON.parse(text) as Report
    if (options.json) printJson(report)
    else print(formatReport(report))
    return
  }
  // Another runner built it; what the note says is all there is here.
  if (options.json) {
    printJson({ report: null, sha256, summary })
    return
  }
  const { at, passed, failed, skipped, left, certificates, inside } = summary
  print(
    `${template.name}, verified on clones ${at}\n` +
      `${passed} passed, ${failed} failed, ${skipped} not asked, ${left} not applicable or excepted\n` +
      `certificates: ${certificates}\ninside: ${inside}\n`,
  )
  tell(`report not here, sha256 ${sha256 ?? 'unknown'}\n`)
}
