import { join, relative } from 'node:path'
import {
  compareManifests,
  comparePackages,
  type Differences,
  type Installed,
  isSame,
} from '../../build/inventory/differences.ts'
import type { Manifest } from '../../build/inventory/manifest.ts'
import { packageListFile, type RecordPlaces, readPackageList } from '../../build/package-lists.ts'
import { MANIFEST, PACKAGES, PLAN, readRecord, recordsFolder } from '../../build/records.ts'
import { ImagebuildError } from '../../core/errors.ts'
import { compareFileLayers, type FileChange } from '../../plan/file-layers.ts'
import type { PlanRecord } from '../../plan/record.ts'
import { requireNode } from '../../pve/nodes.ts'
import { placesTemplates, readNote, select, type Template } from '../../pve/templates.ts'
import { formatDifferences, type NotHere } from '../difference-text.ts'
import { reportsFolder } from '../folders.ts'
import type { Invocation } from '../invocation.ts'
import { print, printJson } from '../output.ts'
import { openProject } from '../project.ts'
import { type Connected, connectTarget } from '../target.ts'

/** One side: a template, and what was in it when it was built. */
interface Side {
  template: Template
  version: string
  built?: string
  /** undefined where it is not here, but the list of packages is */
  manifest?: Manifest
  /** of its manifest */
  sha256: string
  packages: Installed
  /** what it was made of; undefined where its record is not here */
  plan?: PlanRecord
}

/**
 * What differs between two templates of an image, by the manifests and plans that their builds wrote. Where a manifest is not
 * here, as in a fresh clone of the project, the packages are compared by the lists that were committed.
 * @param older `current`, `previous` or a version, with or without `@`
 * @throws ImagebuildError `not_found` where there is no such template, or neither its manifest nor its list of packages is here
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
  const at = {
    root: project.root,
    target: place.target,
    reportsDir: reportsFolder(project.root, place.target),
  }
  const on = { image: name, target: place.target, ...(options.node !== undefined && { asked: options.node }) }
  const newest = choose(templates, newer, on)
  // Where the same version was built on several nodes, those of one node are compared.
  const oldest = choose(templates, older, { ...on, beside: newest.node })
  const before = await readSide(connected, at, oldest)
  const after = await readSide(connected, at, newest)
  const differences = compare(before, after)
  if (options.json) {
    printJson({ image: name, before: nameOf(before), after: nameOf(after), ...differences })
  } else {
    print(
      `${name} ${before.version} → ${after.version} on ${place.target}\n\n${formatDifferences(differences)}`,
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

function compare(
  before: Side,
  after: Side,
): Differences & { files: readonly FileChange[]; notHere: readonly NotHere[] } {
  const found =
    before.manifest && after.manifest
      ? compareManifests(before.manifest, after.manifest)
      : comparePackages(before.packages, after.packages)
  const files = before.plan && after.plan && compareFileLayers(before.plan, after.plan)
  const notHere = [before, after].filter(({ manifest }) => manifest === undefined)
  return {
    ...found,
    files: files ?? [],
    unknown: files === undefined ? [...found.unknown, 'files of layers'] : found.unknown,
    notHere: notHere.map(({ version, sha256 }) => ({ version, sha256 })),
  }
}

async function readSide({ pve, places }: Connected, at: RecordPlaces, template: Template): Promise<Side> {
  const { node, marks } = template
  const { image, version = '' } = marks
  const note = await readNote(pve, template)
  const artifacts = note?.artifacts
  const sha256 = artifacts?.[MANIFEST]
  if (sha256 === undefined) {
    throw new ImagebuildError({
      code: 'not_found',
      what: `${template.name} has no manifest`,
      why: 'it was built by an imagebuild that wrote none',
      next: `imagebuild run ${image} --force builds one that has`,
    })
  }
  const of = { image, version, node }
  const text = await readRecord(at.reportsDir, of, MANIFEST, sha256)
  if (text !== undefined) {
    const manifest = JSON.parse(text) as Manifest
    const { built, packages } = manifest
    const record = await readRecord(at.reportsDir, of, PLAN, artifacts?.[PLAN])
    const plan = record === undefined ? {} : { plan: JSON.parse(record) as PlanRecord }
    return { template, version, built, manifest, sha256, packages, ...plan }
  }
  const list = await readPackageList(at, of, artifacts?.[PACKAGES])
  if (list !== undefined) {
    const packages = list.packages.length === 0 ? null : list.packages
    return { template, version, sha256, packages, ...(note?.built !== undefined && { built: note.built }) }
  }
  const folder = recordsFolder(at.reportsDir, image, version, places[0]?.node === node ? '' : node)
  const committed = relative(process.cwd(), packageListFile(at.root, { target: at.target, image }))
  throw new ImagebuildError({
    code: 'not_found',
    what: `the manifest of ${template.name} is not here`,
    why: `report not here, sha256 ${sha256}`,
    next: `copy ${join(folder, MANIFEST)} from the machine that built it; of its packages alone, \`git log -p ${committed}\` shows what was committed`,
  })
}

function nameOf({ template: { vmid, node }, version, built }: Side) {
  return { version, vmid, node, built }
}
