import { renderDiagnostic } from '../definition/diagnostics.ts'
import { findConfig } from '../definition/find.ts'
import { loadProject, type Project } from '../definition/load.ts'
import { knownItems } from '../hardening/expand.ts'
import { catalogIds } from '../source/catalog.ts'
import { endOfLife } from '../source/end-of-life.ts'
import type { Invocation } from './invocation.ts'
import { tellStyled, terminal } from './output.ts'

/** The project around the working directory, or that of --config; only these images and their parents, if named. */
export async function openProject(invocation: Invocation, images?: readonly string[]): Promise<Project> {
  const file = await findConfig(process.cwd(), invocation.config)
  return await loadProject(file, {
    releases: catalogIds(),
    hardeningItems: knownItems(),
    endOfLife: (name) => endOfLife(name, new Date()),
    ...(images && { images }),
  })
}

/** What is doubtful in the definitions, each at its place. */
export function tellWarnings({ warnings }: Project): void {
  const color = terminal().isTTY === true && !process.env.NO_COLOR
  for (const warning of warnings) tellStyled(`${renderDiagnostic(warning, { color })}\n\n`)
}
