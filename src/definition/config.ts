import { dirname, resolve } from 'node:path'
import { loadCi } from './ci.ts'
import type { Ci } from './ci-schema.ts'
import { configFile, type Target } from './config-schema.ts'
import { type Diagnostic, InvalidDefinition } from './diagnostics.ts'
import { check } from './explain.ts'
import { loadTargets } from './targets.ts'
import { YamlFile } from './yaml-file.ts'

/** What imagebuild.yaml says. */
export interface Config {
  /** the folder of imagebuild.yaml: images/ and cloud-init/ lie in it */
  root: string
  configFile: string
  namespace: string
  /** the target where none is chosen */
  defaultTarget?: string
  targets: Record<string, Target>
  /** scheduled runs: what is a reason to build, and whom they tell */
  ci: Ci
}

/** Reads imagebuild.yaml alone. What is wrong goes to `report`; undefined where nothing can be made of the rest. */
export async function loadConfig(
  path: string,
  report: (found: Diagnostic) => void,
): Promise<Config | undefined> {
  const file = resolve(path)
  const root = dirname(file)
  const yaml = YamlFile.read(file)
  for (const diagnostic of yaml.diagnostics) report(diagnostic)
  if (yaml.value === undefined) return undefined
  const { value, diagnostics } = check(configFile, yaml, { once: true })
  for (const diagnostic of diagnostics) report(diagnostic)
  const targets = await loadTargets(yaml, value, root, report)
  if (value === undefined) return undefined
  const { namespace, target, ci } = value
  return {
    root,
    configFile: file,
    namespace,
    ...(target !== undefined && { defaultTarget: target }),
    targets,
    ci: await loadCi(ci, root, { yaml, report }),
  }
}

/**
 * The same, where nothing is known of images and nothing has to be.
 * @throws InvalidDefinition (`definition_invalid`) with all mistakes
 */
export async function readConfig(path: string): Promise<Config> {
  const found: Diagnostic[] = []
  const config = await loadConfig(path, (diagnostic) => void found.push(diagnostic))
  const errors = found.filter(({ severity }) => severity === 'error')
  if (errors.length > 0 || config === undefined) throw new InvalidDefinition(errors)
  return config
}
