import { readFile } from 'node:fs/promises'
import { execa } from 'execa'
import { labNames } from '../../../src/lab/names.ts'
import { configIfThere, destroyGuest } from '../../../src/pve/destroy.ts'
import { guestLabel, nodeGuests } from '../../../src/pve/guest-ref.ts'
import { compareVersions, fromTags } from '../../../src/pve/marks.ts'
import { nodeTemplates, readNote, select, type Template } from '../../../src/pve/templates.ts'
import { LAB_DIR } from '../../e2e/harness.ts'
import type { Ground } from './ground.ts'

/** What is looked at after a kill: which template counts, and what lies about that nobody owns. */

const STORAGES = ['local', 'local-lvm']

/** The template that counts, by what the node says at this moment. */
export async function current(ground: Ground): Promise<Template | undefined> {
  return select(await nodeTemplates(ground.pve, ground.node, ground.namespace), ground.image)
}

/**
 * What is wrong with that which `resolve` gives now: it must be the version of before, or a newer one of which clones
 * were examined.
 */
export async function wrongTemplate(ground: Ground, before: Template): Promise<string[]> {
  const { stdout, stderr, exitCode } = await ground.direct(['resolve', ground.image])
  if (exitCode !== 0) return [`resolve ends with ${exitCode}: ${stderr}`]
  const templates = await nodeTemplates(ground.pve, ground.node, ground.namespace)
  const now = select(templates, ground.image)
  if (now === undefined) return ['by the node’s own list, no template is current']
  // `resolve` reads a list that is some seconds old, so both must be good.
  const resolved = templates.find(({ vmid }) => vmid === Number(stdout))
  if (resolved === undefined) return [`resolve gives ${stdout}, which is no template of ours`]
  return (await Promise.all([now, resolved].map((one) => whatIsWrong(ground, one, before)))).flat()
}

async function whatIsWrong(ground: Ground, template: Template, before: Template): Promise<string[]> {
  const name = `${guestLabel(template)} (${template.marks.version})`
  const wrong: string[] = []
  const order = compareVersions(template.marks.version, before.marks.version)
  const note = await readNote(ground.pve, template)
  const isProven = typeof note?.verify === 'object' && note.verify.failed === 0
  if (order < 0) wrong.push(`${name} is older than ${before.marks.version}, which was current`)
  if (order > 0 && !isProven) wrong.push(`${name} is not proven`)
  if (order > 0 && template.marks.verified === undefined)
    wrong.push(`${name} does not bear that it is proven`)
  const config = await configIfThere(ground.pve, template)
  if (config === undefined || !config.template) return [...wrong, `${name} is no template`]
  const disks = (await volumes(ground)).filter(({ vmid }) => vmid === template.vmid)
  if (!disks.some(({ volid }) => JSON.stringify(config).includes(volid))) wrong.push(`${name} has no disk`)
  return wrong
}

export interface Orphans {
  /** what nobody owns, and no next command would need */
  orphans: string[]
  /** finished candidates, which the next run of the same definition takes: no orphans */
  candidates: Template[]
}

/** Everything in the ground but finished templates and what belongs to them. */
export async function findOrphans(ground: Ground, keep: number): Promise<Orphans> {
  const { pve, node, vmids, namespace } = ground
  const inGround = (vmid: number | undefined) =>
    vmid !== undefined && vmid >= vmids.first && vmid <= vmids.last
  const orphans: string[] = []
  const candidates: Template[] = []
  const guests = (await nodeGuests(pve, node)).filter(({ vmid }) => inGround(vmid))
  const kept: Template[] = []
  for (const row of guests) {
    const marks = row.template ? fromTags(row.vmid, row.tags) : undefined
    const label = `${guestLabel(row)} ${row.name} (${row.tags ?? 'no tags'})`
    if (marks === undefined) orphans.push(`guest: ${label}`)
    else if (marks.swap !== undefined || marks.standin || marks.expires !== undefined)
      orphans.push(`unfinished: ${label}`)
    else {
      const template: Template = { ...row, node, marks, name: row.name ?? '' }
      if (marks.state === 'candidate') candidates.push(template)
      else kept.push(template)
    }
  }
  const count = kept.filter(({ marks }) => marks.state === 'current').length
  if (count !== 1) orphans.push(`${count} templates are marked current`)
  if (kept.length > keep) orphans.push(`${kept.length} versions, and ${keep} are kept`)
  const configs = new Map<number, string>()
  for (const row of guests) configs.set(row.vmid, JSON.stringify(await configIfThere(pve, { ...row, node })))
  for (const { volid, vmid } of await volumes(ground)) {
    if (vmid !== undefined && inGround(vmid) && !configs.get(vmid)?.includes(volid))
      orphans.push(`volume: ${volid}`)
    const isOurs = volid.includes(`.${namespace}.`) || volid.includes(ground.image)
    if (vmid === undefined && isOurs && ![...configs.values()].some((text) => text.includes(name(volid))))
      orphans.push(`file: ${volid}`)
  }
  return { orphans: [...orphans, ...(await processes(ground))], candidates }
}

function name(volid: string): string {
  return volid.slice(volid.lastIndexOf('/') + 1)
}

async function volumes({ pve, node }: Ground): Promise<{ volid: string; vmid?: number }[]> {
  const lists = await Promise.all(STORAGES.map((id) => pve.api.nodes.$(node).storage.$(id).content.$get()))
  return (lists.flat() as unknown as { volid: string; vmid?: number; content: string }[]).map(
    ({ volid, vmid, content }) => ({
      volid,
      ...(vmid !== undefined && content !== 'iso' && content !== 'vztmpl' && { vmid: Number(vmid) }),
    }),
  )
}

/** Of guests: nothing runs when all is over. */
async function processes({ vmids }: Ground): Promise<string[]> {
  const { container, runtime, tap } = labNames(LAB_DIR)
  const ids = Array.from({ length: vmids.last - vmids.first + 1 }, (_, offset) => vmids.first + offset)
  const { stdout } = await execa('ps', ['-eo', 'pid=,args='])
  const lines = stdout.split('\n').filter((line) => line.includes(runtime) || line.includes('iblab-'))
  const found = ids.flatMap((vmid) =>
    lines.filter((line) => line.includes(container(vmid)) || line.includes(`${runtime}/${vmid}`)),
  )
  const cards = await readFile('/proc/net/dev', 'utf8')
  return [
    ...found.map((line) => `process: ${line.trim()}`),
    ...ids.filter((vmid) => cards.includes(tap(vmid, 'net0'))).map((vmid) => `network card of ${vmid}`),
  ]
}

/** So that the next point begins where this one began: with finished templates alone. */
export async function removeCandidates(ground: Ground, candidates: readonly Template[]): Promise<void> {
  const signal = AbortSignal.timeout(120_000)
  for (const { kind, node, vmid } of candidates) await destroyGuest(ground.pve, { kind, node, vmid, signal })
}
