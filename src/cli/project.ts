import { findConfig } from '../definition/find.ts'
import { loadProject, type Project } from '../definition/load.ts'
import { knownItems } from '../hardening/expand.ts'
import { catalogIds } from '../source/catalog.ts'
import type { Invocation } from './invocation.ts'

/** The project around the working directory, or that of --config; only these images and their parents, if named. */
export async function openProject(invocation: Invocation, images?: readonly string[]): Promise<Project> {
  const file = await findConfig(process.cwd(), invocation.config)
  return await loadProject(file, {
    releases: catalogIds(),
    hardeningItems: knownItems(),
    ...(images && { images }),
  })
}
