import { readdirSync } from 'node:fs'
import { readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { copyRoot } from './root-copy.ts'

const FILE = /^\.snapshot-(.+)~(\d+)~(.+)\.raw$/

/** Snapshots of containers' roots: raw files have none inside, so each is a copy, `.snapshot-<volume>~<number>~<name>.raw`. */
export class RootSnapshots {
  readonly #folder: string

  constructor(folder: string) {
    this.#folder = folder
  }

  /** names, oldest first */
  async list(volume: string): Promise<string[]> {
    return of(volume, await readdir(this.#folder)).map(({ name }) => name)
  }

  path(volume: string, name: string): string {
    const found = of(volume, readdirSync(this.#folder)).find((snapshot) => snapshot.name === name)
    if (found === undefined) throw new Error(`snapshot '${name}' does not exist`)
    return join(this.#folder, found.file)
  }

  async create(root: string, volume: string, name: string): Promise<void> {
    const last = of(volume, await readdir(this.#folder)).at(-1)?.number ?? 0
    await copyRoot(root, join(this.#folder, `.snapshot-${volume}~${last + 1}~${name}.raw`))
  }

  async removeAll(volume: string): Promise<void> {
    for (const { file } of of(volume, await readdir(this.#folder))) await rm(join(this.#folder, file))
  }
}

function of(volume: string, files: readonly string[]): { file: string; number: number; name: string }[] {
  return files
    .map((file) => ({ file, parts: FILE.exec(file) ?? [] }))
    .filter(({ parts }) => parts[1] === volume)
    .map(({ file, parts }) => ({ file, number: Number(parts[2]), name: String(parts[3]) }))
    .sort((a, b) => a.number - b.number)
}
