import type { z } from 'zod'

/** Whether a map at `path` may have `key`. */
export function hasKey(schema: z.core.$ZodType, path: readonly (string | number)[], key: string): boolean {
  const [first, ...rest] = path
  if (first === undefined) return keysOf(schema).includes(key)
  const next = typeof first === 'number' ? elementOf(schema) : schemaOfKey(schema, first)
  return next !== undefined && hasKey(next, rest, key)
}

/** The maps that a schema allows at its place, without what is wrapped around them; the one with most keys first. */
function unwrap(schema: z.core.$ZodType): z.core.$ZodType[] {
  const def = (schema as z.core.$ZodTypes)._zod.def
  if (def.type === 'union') {
    const options = def.options.flatMap(unwrap)
    return options.sort((a, b) => ownKeys(b).length - ownKeys(a).length)
  }
  if (def.type === 'pipe') return unwrap(def.in)
  return 'innerType' in def ? unwrap(def.innerType) : [schema]
}

function ownKeys(schema: z.core.$ZodType): string[] {
  const def = (schema as z.core.$ZodTypes)._zod.def
  return def.type === 'object' ? Object.keys(def.shape) : []
}

/** Every key that a map may have at the schema's place, in the order of the schema. */
export function keysOf(schema: z.core.$ZodType): string[] {
  return [...new Set(unwrap(schema).flatMap(ownKeys))]
}

export function schemaOfKey(schema: z.core.$ZodType, key: string): z.core.$ZodType | undefined {
  for (const one of unwrap(schema)) {
    const def = (one as z.core.$ZodTypes)._zod.def
    if (def.type === 'record') return def.valueType
    if (def.type === 'object' && Object.hasOwn(def.shape, key)) return def.shape[key]
  }
  return undefined
}

export function elementOf(schema: z.core.$ZodType): z.core.$ZodType | undefined {
  for (const one of unwrap(schema)) {
    const def = (one as z.core.$ZodTypes)._zod.def
    if (def.type === 'array') return def.element
  }
  return undefined
}
