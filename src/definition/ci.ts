import { resolve } from 'node:path'
import { absoluteReference, isSecretReference } from '../core/secrets.ts'
import { checkCa } from './ca-file.ts'
import type { Ci } from './ci-schema.ts'
import type { Diagnostic } from './diagnostics.ts'
import type { YamlFile } from './yaml-file.ts'

/** `ci` of imagebuild.yaml with paths made absolute: files are relative to the folder that it lies in. */
export async function loadCi(
  written: Ci,
  root: string,
  context: { yaml: YamlFile; report: (found: Diagnostic) => void },
): Promise<Ci> {
  const ci = withAbsoluteReferences(written, root)
  const { metrics, pullRequest } = ci
  if (metrics !== undefined) ci.metrics = resolve(root, metrics)
  if (pullRequest?.ca !== undefined) {
    pullRequest.ca = resolve(root, pullRequest.ca)
    await checkCa(pullRequest.ca, ['ci', 'pullRequest', 'ca'], context)
  }
  return ci
}

/** Of all texts in it only references can look like one: the schema lets nothing else begin with `file:`. */
function withAbsoluteReferences<T>(value: T, root: string): T {
  if (typeof value === 'string') {
    return (isSecretReference(value) ? absoluteReference(value, root) : value) as T
  }
  if (Array.isArray(value)) return value.map((item) => withAbsoluteReferences(item, root)) as T
  if (value === null || typeof value !== 'object') return value
  const entries = Object.entries(value).map(([key, item]) => [key, withAbsoluteReferences(item, root)])
  return Object.fromEntries(entries) as T
}
