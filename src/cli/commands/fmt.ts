import { readdir, readFile, writeFile } from 'node:fs/promises'
import { dirname, join, relative } from 'node:path'
import { findConfig } from '../../definition/find.ts'
import { formatDocument } from '../../definition/format.ts'
import type { Invocation } from '../program.ts'

/** Rewrites definitions in their canonical form, comments kept. */
export async function fmt(
  invocation: Invocation,
  files: readonly string[],
  options: { check: boolean },
): Promise<void> {
  const chosen = files.length > 0 ? files : await projectFiles(invocation)
  let changed = 0
  for (const file of chosen) {
    const text = await readFile(file, 'utf8')
    const formatted = formatDocument(text)
    if (formatted === text) continue
    changed += 1
    if (!options.check) await writeFile(file, formatted)
    process.stdout.write(`${relative(process.cwd(), file)}\n`)
  }
  if (options.check && changed > 0) {
    process.stderr.write(
      `${changed} ${changed === 1 ? 'file is' : 'files are'} not in canonical form; run: imagebuild fmt\n`,
    )
    process.exitCode = 1
  }
}

async function projectFiles(invocation: Invocation): Promise<string[]> {
  const config = await findConfig(process.cwd(), invocation.config)
  const images = join(dirname(config), 'images')
  const folders = await readdir(images, { withFileTypes: true }).catch(() => [])
  return [
    config,
    ...folders
      .filter((entry) => entry.isDirectory())
      .map((entry) => join(images, entry.name, 'image.yaml'))
      .sort(),
  ]
}
