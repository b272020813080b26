import { ImagebuildError } from '../../core/errors.ts'
import { readConfig } from '../../definition/config.ts'
import { findConfig } from '../../definition/find.ts'
import type { Pve } from '../../pve/client.ts'
import type { State } from '../../pve/marks.ts'
import { byVersion, imageTemplates, readNote, select, type Template } from '../../pve/templates.ts'
import type { Invocation } from '../invocation.ts'
import { print, printJson } from '../output.ts'
import { formatTable } from '../table.ts'
import { connectTarget } from '../target.ts'

export interface HistoryRow {
  version: string
  state: State
  held: boolean
  /** 0: it was never current */
  turn: number
  /** ISO 8601, UTC */
  built: string
  digest: string
  verified: 'yes' | 'from outside' | 'no'
  /** node → VMID */
  templates: Record<string, number>
}

/** The versions of an image on the target, the newest first. */
export async function history(
  invocation: Invocation,
  image: string,
  options: { target?: string; json: boolean },
): Promise<void> {
  const config = await readConfig(await findConfig(process.cwd(), invocation.config))
  await using connected = await connectTarget(invocation, config, options.target, () => {})
  const { pve, place, places } = connected
  const nodes = places.map(({ node }) => node)
  const all = await imageTemplates(pve, { namespace: config.namespace, image, nodes })
  const there = all.filter(({ node, marks }) => nodes.includes(node) && marks.version !== undefined)
  const rows = await historyOf(pve, image, there)
  if (options.json) printJson(rows)
  else if (rows.length > 0) print(formatHistory(rows))
  if (rows.length > 0) return
  throw new ImagebuildError({
    code: 'not_found',
    what: `there is no template of ${image} on ${place.target}`,
    next: `imagebuild run ${image}, or imagebuild list for what there is`,
  })
}

async function historyOf(pve: Pve, image: string, there: readonly Template[]): Promise<HistoryRow[]> {
  const states = new Map([
    [select(there, image, 'previous')?.marks.version, 'previous'],
    [select(there, image)?.marks.version, 'current'],
  ] as const)
  const versions = Map.groupBy([...there].sort(byVersion).reverse(), ({ marks }) => marks.version ?? '')
  return await Promise.all(
    [...versions].map(async ([version, templates]) => {
      const one = select(templates, image, version) ?? (templates[0] as Template)
      const { marks } = one
      const note = await readNote(pve, one)
      // Where a promotion was cut off, more are marked current than are.
      const marked = marks.state === 'current' || marks.state === 'previous' ? 'retired' : marks.state
      return {
        version,
        state: states.get(version) ?? marked,
        held: (states.get(version) === 'current' && marks.held) ?? false,
        turn: marks.turn ?? 0,
        built: note?.built ?? '',
        digest: note?.digest ?? marks.digest ?? '',
        verified: marks.verified === 'inside' ? 'yes' : marks.verified === 'outside' ? 'from outside' : 'no',
        templates: Object.fromEntries(templates.map(({ node, vmid }) => [node, vmid])),
      } as const
    }),
  )
}

export function formatHistory(rows: readonly HistoryRow[]): string {
  return formatTable(
    ['version', 'state', 'turn', 'built', 'verified', 'digest', 'vmid'],
    rows.map((row) => ({
      ...row,
      state: row.held ? `${row.state}, held` : row.state,
      turn: row.turn || '-',
      digest: row.digest.replace(/^sha256:/, '').slice(0, 12),
      vmid: Object.entries(row.templates)
        .map(([node, vmid]) => `${vmid} (${node})`)
        .join(', '),
    })),
  )
}
