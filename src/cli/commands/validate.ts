import { type Diagnostic, InvalidDefinition } from '../../definition/diagnostics.ts'
import { annotate, isOnGitHub } from '../github-log.ts'
import type { Invocation } from '../invocation.ts'
import { print, printJson, workflowCommands } from '../output.ts'
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
    annotateAll(project.warnings)
    const count = project.images.size
    print(
      `${count} ${count === 1 ? 'image is' : 'images are'} valid: ${[...project.images.keys()].join(', ')}\n`,
    )
  } catch (error) {
    if (error instanceof InvalidDefinition) annotateAll(error.diagnostics)
    if (!(error instanceof InvalidDefinition) || !options.json) throw error
    printJson(error.diagnostics)
    process.exitCode = error.exitCode
  }
}

/** In a CI they are shown where they are, too. */
function annotateAll(diagnostics: readonly Diagnostic[]): void {
  if (isOnGitHub()) for (const found of diagnostics) annotate(found, workflowCommands)
}
