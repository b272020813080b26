import { InvalidDefinition } from '../../definition/diagnostics.ts'
import type { Invocation } from '../invocation.ts'
import { annotate, print, printJson } from '../output.ts'
import { openProject, tellWarnings } from '../project.ts'

/** Checks all files, or those of the named images, without any network. */
export async function validate(
  invocation: Invocation,
  images: readonly string[],
  options: { json: boolean },
): Promise<void> {
  try {
    const project = await openProject(invocation, images.length > 0 ? images : undefined)
    annotate(project.warnings)
    if (options.json) return printJson(project.warnings)
    tellWarnings(project)
    const count = project.images.size
    print(
      `${count} ${count === 1 ? 'image is' : 'images are'} valid: ${[...project.images.keys()].join(', ')}\n`,
    )
  } catch (error) {
    if (!(error instanceof InvalidDefinition)) throw error
    annotate(error.diagnostics)
    if (!options.json) throw error
    printJson(error.diagnostics)
    process.exitCode = error.exitCode
  }
}
