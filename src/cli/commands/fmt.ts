import { glob, readFile, writeFile } from 'node:fs/promises'
import { basename, dirname, join, relative, resolve } from 'node:path'
import { ImagebuildError } from '../../core/errors.ts'
import { InvalidDefinition } from '../../definition/diagnostics.ts'
import { CONFIG_FILE, findConfig } from '../../definition/find.ts'
import { formatDocument } from '../../definition/format.ts'
import type { Annotation } from '../github-log.ts'
import type { Invocation } from '../invocation.ts'
import { annotate, print, tell } from '../output.ts'

/** Rewrites definitions in their canonical form, comments kept. */
export async function fmt(
  invocation: Invocation,
  files: readonly string[],
  options: { check: boolean },
): Promise<void> {
  const chosen = files.length > 0 ? files : await projectFiles(invocation)
  let changed = 0
  for (const file of chosen) {
    const text = await readFile(file, 'utf8').catch((cause: Error) => {
      throw new ImagebuildError({
        code: 'usage',
        what: `${file} cannot be read`,
        why: cause.message,
        next: 'imagebuild fmt without a name takes all files of the project',
        cause,
      })
    })
    const formatted = canonical(text, file)
    if (formatted === text) continue
    changed += 1
    if (options.check) annotate([notCanonical(file, text, formatted)])
    else await writeFile(file, formatted)
    print(`${relative(process.cwd(), file)}\n`)
  }
  if (options.check && changed > 0) {
    tell(`${changed} ${changed === 1 ? 'file is' : 'files are'} not in canonical form; run: imagebuild fmt\n`)
    process.exitCode = 1
  }
}

function canonical(text: string, file: string): string {
  try {
    return formatDocument(text, kindOf(file), file)
  } catch (error) {
    if (error instanceof InvalidDefinition) annotate(error.diagnostics)
    throw error
  }
}

/** At the first line that would be another. */
function notCanonical(file: string, text: string, formatted: string): Annotation {
  const [lines, canonicalLines] = [text.split('\n'), formatted.split('\n')]
  const differing = lines.findIndex((line, index) => line !== canonicalLines[index])
  return {
    severity: 'error',
    file: resolve(file),
    line: differing === -1 ? lines.length : differing + 1,
    column: 1,
    message: 'not in canonical form',
    hint: 'run: imagebuild fmt',
  }
}

function kindOf(file: string): 'image' | 'config' | 'fragment' {
  if (basename(file) === CONFIG_FILE) return 'config'
  return basename(file) === 'image.yaml' ? 'image' : 'fragment'
}

async function projectFiles(invocation: Invocation): Promise<string[]> {
  const config = await findConfig(process.cwd(), invocation.config)
  const root = dirname(config)
  const patterns = ['images/*/image.yaml', 'cloud-init/*.yaml']
  const found = await Array.fromAsync(glob(patterns, { cwd: root }))
  return [config, ...found.sort().map((file) => join(root, file))]
}
