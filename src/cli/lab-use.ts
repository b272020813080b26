import { type Client, clientsOf } from '../lab/clients.ts'
import { isStale } from '../pve/claim-judged.ts'
import type { Pve } from '../pve/client.ts'
import { configIfThere } from '../pve/destroy.ts'
import { type ClusterRow, guestLabel, nodeGuests } from '../pve/guest-ref.ts'
import { isConsole, runningTasks } from '../pve/guest-tasks.ts'
import { fromTags, type Marks, parseNote } from '../pve/marks.ts'
import { parseUpid, type Upid } from '../pve/tasks.ts'

/** What a lab is used for at this moment: what ends with it. */
export interface LabUse {
  /** images that a living process builds, or puts at their fixed VMID */
  builds: Build[]
  /** work that is under way, and is no known build's */
  tasks: Upid[]
  /** running guests that are no build's */
  guests: string[]
  /** running guests that `--on-error keep` has kept */
  kept: string[]
  /** who is connected, but for builds */
  clients: Client[]
}

export interface Build {
  image: string
  /** it only swaps the image's fixed VMID, on this node */
  swapOn?: string
  /** `process 4711 on ci-2` */
  who: string
  /** where that is known: ISO 8601, UTC */
  since?: string
  pid?: number
}

interface Row extends ClusterRow {
  marks: Marks | undefined
}

/** @param port where the lab listens; @param itself processes that are not counted: the lab's own, and this one */
export async function labUse(pve: Pve, port: number, itself: readonly number[]): Promise<LabUse> {
  const nodes = (await pve.api.nodes.$get()).map(({ node }) => node)
  const rows = (await Promise.all(nodes.map((node) => rowsOf(pve, node)))).flat()
  const builds = await buildsAmong(pve, rows)
  const building = new Set(builds.map(({ image }) => image))
  const isOfBuild = ({ marks }: Row) =>
    marks !== undefined && marks.state !== 'kept' && building.has(marks.image)
  const running = (await Promise.all(nodes.map((node) => tasksOf(pve, node)))).flat()
  const ofBuilds = new Set(rows.filter(isOfBuild).map(({ vmid }) => String(vmid)))
  const up = rows.filter(({ status }) => status === 'running')
  const isKept = ({ marks }: Row) => marks?.state === 'kept'
  const known = new Set([...itself, ...builds.flatMap(({ pid }) => pid ?? [])])
  return {
    builds,
    // Whoever looks at a console is a client.
    tasks: running.filter((task) => !isConsole(task) && !ofBuilds.has(task.id)),
    guests: up.filter((row) => !isKept(row) && !isOfBuild(row)).map(named),
    kept: up.filter(isKept).map(named),
    clients: (await clientsOf(port)).filter(({ pid }) => pid === undefined || !known.has(pid)),
  }
}

async function rowsOf(pve: Pve, node: string): Promise<Row[]> {
  return (await nodeGuests(pve, node)).map((row) => ({ ...row, node, marks: fromTags(row.vmid, row.tags) }))
}

async function tasksOf(pve: Pve, node: string): Promise<Upid[]> {
  return (await runningTasks(pve, node)).map(({ upid }) => parseUpid(upid))
}

/** By their claims, whose notes say which process it is. */
async function buildsAmong(pve: Pve, rows: readonly Row[]): Promise<Build[]> {
  const claims = rows.filter(({ marks }) => marks?.state === 'claim')
  const found = await Promise.all(
    claims.map(async (row): Promise<Build[]> => {
      const config = await configIfThere(pve, row)
      const note = config && parseNote(row.vmid, config.description)
      if (config === undefined || note === undefined || (await isStale(pve, { ...row, config }))) return []
      const { owner, since, run } = note
      const who = owner === undefined ? `run ${run}` : `process ${owner.pid} on ${owner.host}`
      return [
        {
          ...claimed(note.image),
          who,
          ...(since !== undefined && { since }),
          ...(owner && { pid: owner.pid }),
        },
      ]
    }),
  )
  return found.flat()
}

/** The lock on a swap is a claim on `<image>.<node>`; names of images have no dots. */
function claimed(name: string): Pick<Build, 'image' | 'swapOn'> {
  const [image = '', ...node] = name.split('.')
  return { image, ...(node.length > 0 && { swapOn: node.join('.') }) }
}

function named(row: Row): string {
  return row.name === undefined ? guestLabel(row) : `${guestLabel(row)} (${row.name})`
}

/** One line for each thing that would end. */
export function describeUse({ builds, tasks, guests, kept, clients }: LabUse): string[] {
  return [
    ...builds.map(({ image, swapOn, who, since }) => {
      const work = swapOn === undefined ? `build of ${image}` : `swap of ${image} on ${swapOn}`
      return `the ${work} by ${who}${since === undefined ? '' : `, since ${since}`}`
    }),
    ...tasks.map(({ type, id, user }) => `the task ${type}${id && ` of ${id}`}, started by ${user}`),
    ...guests.map((guest) => `${guest}, which runs`),
    ...kept.map((guest) => `${guest}, which runs, and was kept after a failure`),
    ...clients.map(({ pid, name }) => {
      return `the connection of ${name}${pid === undefined ? '' : ` (process ${pid})`}`
    }),
  ]
}
