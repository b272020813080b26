import { randomBytes } from 'node:crypto'
import { readFile, rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'

/**
 * The nodes that a lab plays. The first is always `lab`; further ones are those of its config.json, and those that
 * somebody has asked for since. They stay: guests and volumes live on them.
 */
export const FIRST_NODE = 'lab'

const file = (dir: string) => join(dir, 'nodes.json')

export async function readNodes(dir: string, configured: readonly string[]): Promise<string[]> {
  const text = await readFile(file(dir), 'utf8').catch(() => '[]')
  return [...new Set([FIRST_NODE, ...configured, ...(JSON.parse(text) as string[])])]
}

/** In one step: a reader sees the old list or the new one. */
export async function writeNodes(dir: string, nodes: readonly string[]): Promise<void> {
  const partial = `${file(dir)}.${randomBytes(4).toString('hex')}`
  await writeFile(partial, `${JSON.stringify(nodes)}\n`, { mode: 0o600 })
  await rename(partial, file(dir))
}

/** Where the storages of a node lie that are its own; those of all nodes lie with the first's. */
export function storageFolder(dir: string, node: string, id: string, shared: boolean): string {
  return node === FIRST_NODE || shared ? join(dir, 'storage', id) : join(dir, 'nodes', node, 'storage', id)
}
