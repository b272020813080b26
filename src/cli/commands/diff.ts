import { join } from 'node:path'
import { compareManifests, isSame } from '../../build/inventory/differences.ts'
import type { Manifest } from '../../build/inventory/manifest.ts'
import { MANIFEST, PLAN, readRecord, recordsFolder } from '../../build/records.ts'
import { ImagebuildError } from '../../core/errors.ts'
import { compareFileLayers } from '../../plan/file-layers.ts'
import type { PlanRecord } from '../../plan/record.ts'
import { requireNode } from '../../pve/nodes.ts'
import { placesTemplates, readNote, select, type Template } from '../../pve/templates.ts'
import { formatDifferences } from '../difference-text.ts'
import { reportsFolder } from '../folders.ts'
import type { Invocation } from '../invocation.ts'
import { print, printJson } from '../output.ts'
import { openProject } from '../project.ts'
import { type Connected, connectTarget } from '../target.ts'

/** One side: a template, and what was in it when it was built. */
interface Side {
  template: Template
  manifest: Manifest
  /** what it was made of; undefined where its record is not here */
  plan: PlanRecord | undefined
}

/**
 * What differs between two templates of an image, by the manifests and plans that their builds wrote.
 * @param older `current`, `previous` or a version, with or without `@`
 * @throws ImagebuildError `not_found` where there is no such template, or its manifest is not here
 */
export async function diff(
  invocation: Invocation,
  name: string,
  [older = 'previous', newer = 'current']: readonly (string | undefined)[],
  options: { target?: string; node?: string; json: boolean; exitCode: boolean },
): Promise<void> {
  const project = await openProject(invocation, [])
  await using connected = await connectTarget(invocation, project, options.target, () => {})
  const { pve, place, places } = connected
  if (options.node !== undefined) await requireNode(pve, options.node)
  const nodes = [...new Set([...places.map(({ node }) => node), ...(options.node ? [options.node] : [])])]
  const templates = await placesTemplates(pve, nodes, project.namespace)
  const reports = reportsFolder(project.root, place.target)
  const on = { image: name, target: place.target, ...(options.node !== undefined && { asked: options.node }) }
  const newest = choose(templates, newer, on)
  // Where the same version was built on several nodes, those of one node are compared.
  const oldest = choose(templates, older, { ...on, beside: newest.node })
  const before = await readSide(connected, reports, oldest)
  const after = await readSide(connected, reports, newest)
  const found = compareManifests(before.manifest, after.manifest)
  const files = before.plan && after.plan && compareFileLayers(before.plan, after.plan)
  const differences = {
    ...found,
    files: files ?? [],
    unknown: files === undefined ? [...found.unknown, 'files of layers'] : found.unknown,
  }
  if (options.json) {
    const shown = { image: name, before: nameOf(before), after: nameOf(after), ...differences }
    printJson(shown)
  } else {
    print(
      `${name} ${before.manifest.version} → ${after.manifest.version} on ${place.target}\n\n${formatDifferences(differences)}`,
    )
  }
  if (options.exitCode && !(isSame(differences) && differences.files.length === 0)) process.exitCode = 1
}

function choose(
  templates: readonly Template[],
  wanted: string,
  { image, target, asked, beside }: { image: string; target: string; asked?: string; beside?: string },
): Template {
  const selector = wanted.replace(/^@/, '')
  const near = beside === undefined ? undefined : select(templates, image, selector, beside)
  const template = near ?? select(templates, image, selector, asked)
  if (template !== undefined) return template
  throw new ImagebuildError({
    code: 'not_found',
    what: `there is no ${selector} template of ${image} on ${target}${asked === undefined ? '' : `, node ${asked}`}`,
    next: 'imagebuild list shows the versions that there are',
  })
}

async function readSide({ pve, places }: Connected, reports: string, template: Template): Promise<Side> {
  const { node, marks } = template
  const { image, version = '' } = marks
  const artifacts = (await readNote(pve, template))?.artifacts
  const sha256 = artifacts?.[MANIFEST]
  if (sha256 === undefined) {
    throw new ImagebuildError({
      code: 'not_found',
      what: `${template.name} has no manifest`,
      why: 'it was built by an imagebuild that wrote none',
      next: `imagebuild run ${image} --force builds one that has`,
    })
  }
  const text = await readRecord(reports, { image, version, node }, MANIFEST, sha256)
  if (text !== undefined) {
    const record = await readRecord(reports, { image, version, node }, PLAN, artifacts?.[PLAN])
    const plan = record === undefined ? undefined : (JSON.parse(record) as PlanRecord)
    return { template, manifest: JSON.parse(text) as Manifest, plan }
  }
  const folder = recordsFolder(reports, image, version, places[0]?.node === node ? '' : node)
  throw new ImagebuildError({
    code: 'not_found',
    what: `the manifest of ${template.name} is not here`,
    why: `report not here, sha256 ${sha256}`,
    next: `copy ${join(folder, MANIFEST)} from the machine that built it`,
  })
}

function nameOf({ template: { vmid, node }, manifest: { version, built } }: Side) {
  return { version, vmid, node, built }
}
