import { z } from 'zod'
import { configFile } from './config-schema.ts'
import { IMAGE_KINDS, lxcFile, vmFile } from './image-schema.ts'
import { jsonOfRules } from './rules.ts'

/** Files in schemas/, as `imagebuild schema` writes them. */
export const SCHEMA_FILES = ['image.schema.json', 'imagebuild.schema.json'] as const
export type SchemaFile = (typeof SCHEMA_FILES)[number]

/**
 * The JSON Schemas of image.yaml and imagebuild.yaml: what editors complete and check by. Draft 7, since that
 * is what yaml-language-server knows best. They describe what is typed (`8G`), not what comes of it.
 */
export function generateSchemas(): Record<SchemaFile, string> {
  return {
    'image.schema.json': render(
      'image.schema.json',
      'An image of imagebuild (images/<name>/image.yaml)',
      imageSchema(),
    ),
    'imagebuild.schema.json': render(
      'imagebuild.schema.json',
      'Where imagebuild builds (imagebuild.yaml)',
      toJson(configFile),
    ),
  }
}

/** By `if` and `then`, not by `oneOf`: an editor then speaks of the mistake alone, and not of the other kind. */
function imageSchema(): JsonSchema {
  const [vm, lxc] = [toJson(vmFile), toJson(lxcFile)]
  return {
    type: 'object',
    properties: { kind: { type: 'string', enum: [...IMAGE_KINDS], default: 'vm' } },
    if: { properties: { kind: { const: 'lxc' } }, required: ['kind'] },
    // biome-ignore lint/suspicious/noThenProperty: the keyword of JSON Schema
    then: lxc,
    else: vm,
  }
}

type JsonSchema = Record<string, unknown>

function toJson(schema: z.ZodType): JsonSchema {
  const { $schema, ...rest } = z.toJSONSchema(schema, {
    target: 'draft-7',
    io: 'input',
    override: ({ zodSchema, jsonSchema }) => {
      const rules = jsonOfRules(zodSchema)
      if (rules.length > 0) jsonSchema.allOf = rules as NonNullable<typeof jsonSchema.allOf>
    },
  })
  return rest
}

function render(file: SchemaFile, title: string, schema: JsonSchema): string {
  const $schema = 'http://json-schema.org/draft-07/schema#'
  return `${JSON.stringify({ $schema, $id: `urn:imagebuild:${file}`, title, ...schema }, null, 2)}\n`
}
