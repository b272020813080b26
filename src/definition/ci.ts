import { resolve } from 'node:path'
import { absoluteReference, isSecretReference } from '../core/secrets.ts'
import type { Ci } from './ci-schema.ts'

/** `ci` of imagebuild.yaml with paths made absolute: files are relative to the folder that it lies in. */
export function loadCi(written: Ci, root: string): Ci {
  const { metrics, ...others } = written
  const ci = withAbsoluteReferences(others, root)
  return metrics === undefined ? ci : { ...ci, metrics: resolve(root, metrics) }
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
